/* Runs a build of the kernel on cases from a file, each in memory of exactly its size, and writes down what it
 * answers: kernel_driver CASES ANSWERS THREADS. So builds are compared that Python cannot load: for other
 * machines, and with sanitizers. With several THREADS all run all cases at once; the first one's are written.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel.c"

typedef struct {
    int64_t threads, offset, body_bytes, channels, room, report_bytes;
    job job;
    report report;
    part part;
} header;

static void *exactly(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory)
        abort();
    return memory;
}

static void put(FILE *answers, const void *bytes, size_t count)
{
    if (fwrite(bytes, 1, count, answers) != count)
        abort();
}

static void run_case(header *header, const char *body, FILE *all)
{
    char *bytes;
    size_t length;
    FILE *answers = open_memstream(&bytes, &length);
    result *found = exactly(sizeof *found);
    for (int channel = 0; channel < header->channels; channel++)
        header->part.memory[channel] = exactly(sizeof(double) * (size_t)header->room);
    if (header->report_bytes) {
        header->part.report = exactly((size_t)header->report_bytes);
        header->part.report_bytes = header->report_bytes;
    }
    KERNEL_NAME(&header->job, header->report_bytes ? &header->report : NULL, &header->part, body, header->offset,
                (int)header->threads, found);
    if (found->fault.nan)
        found->fault.value = 0.0; /* whatever its bits are */
    if (found->fault.rule)
        found->count = 0; /* by chance, of several threads */
    else
        found->fault.position = 0;
    put(answers, &found->count, sizeof found->count);
    put(answers, &found->fault, sizeof found->fault);
    for (int which = 0; which < 3 && !found->fault.rule; which++)
        put(answers, found->term[which], sizeof(double) * (size_t)found->terms[which]);
    for (int channel = 0; channel < header->channels; channel++) {
        double *memory = header->part.memory[channel];
        size_t numbers = found->fault.rule ? 0 : (size_t)found->planes[channel] * (size_t)header->part.outputs;
        for (size_t i = 0; i < numbers; i++)
            if (memory[i] != memory[i] && !header->part.rounded && !header->part.elementwise)
                memory[i] = NAN; /* made canonical when planes are added up */
        put(answers, memory, sizeof(double) * numbers);
        free(memory);
    }
    int64_t written = found->fault.rule ? 0 : found->report_bytes;
    free(found);
    fclose(answers);
    if (all) {
        put(all, &length, sizeof length);
        put(all, &written, sizeof written);
        put(all, bytes, length);
        if (written)
            put(all, header->part.report, (size_t)written);
    }
    if (header->report_bytes)
        free(header->part.report);
    free(bytes);
}

static const char *cases_name, *answers_name;

static void *run(void *first)
{
    FILE *cases = fopen(cases_name, "rb"), *answers = first ? fopen(answers_name, "wb") : NULL;
    header header;
    if (!cases || (first && !answers))
        abort();
    while (fread(&header, sizeof header, 1, cases) == 1) {
        char *body = exactly((size_t)header.body_bytes);
        if (fread(body, 1, (size_t)header.body_bytes, cases) != (size_t)header.body_bytes)
            abort();
        run_case(&header, body, answers);
        free(body);
    }
    fclose(cases);
    if (answers)
        fclose(answers);
    return NULL;
}

int main(int count, char **words)
{
    pthread_t thread[64];
    if (count != 4)
        return 2;
    cases_name = words[1];
    answers_name = words[2];
    int threads = atoi(words[3]);
    for (int i = 0; i < threads && i < 64; i++)
        if (pthread_create(&thread[i], NULL, run, i ? NULL : words))
            abort();
    for (int i = 0; i < threads && i < 64; i++)
        pthread_join(thread[i], NULL);
    return 0;
}
