#ifndef LOSSD_POOL_H
#define LOSSD_POOL_H

/* Call run(argument, index) for each index below count, on as many threads, this one among them. */
void lossd_run_on_threads(void (*run)(void *, int), void *argument, int count);

#endif
