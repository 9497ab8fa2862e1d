/* Threads that wait for work, so that none has to be made for a call of a millisecond.
 *
 * One call has them at a time; another one meanwhile does its work on its own thread.
 */
#include "pool.h"

#include <pthread.h>

#define MOST_THREADS 256

static pthread_mutex_t in_use = PTHREAD_MUTEX_INITIALIZER; /* held by the call that has the threads */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;   /* of all below */
static pthread_cond_t begin = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static void (*work)(void *, int);
static void *work_argument;
static int count, next, unfinished, threads;

/* Do what nobody has begun yet. The lock is held. */
static void help(void)
{
    while (next < count) {
        int index = next++;
        pthread_mutex_unlock(&lock);
        work(work_argument, index);
        pthread_mutex_lock(&lock);
        if (--unfinished == 0)
            pthread_cond_signal(&done);
    }
}

static void *wait_and_help(void *unused)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        help();
        pthread_cond_wait(&begin, &lock);
    }
    return unused;
}

static void start_threads(int wanted)
{
    for (; threads < wanted && threads < MOST_THREADS; threads++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, wait_and_help, NULL))
            return; /* those that there are do it all */
        pthread_detach(thread);
    }
}

void lossd_run_on_threads(void (*run)(void *, int), void *argument, int number)
{
    if (pthread_mutex_trylock(&in_use)) {
        for (int i = 0; i < number; i++)
            run(argument, i);
        return;
    }
    pthread_mutex_lock(&lock);
    work = run;
    work_argument = argument;
    count = unfinished = number;
    next = 0;
    start_threads(number - 1);
    pthread_cond_broadcast(&begin);
    help();
    while (unfinished)
        pthread_cond_wait(&done, &lock);
    count = next = 0;
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&in_use);
}
