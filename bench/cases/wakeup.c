/* The reference of haihe.bench.cases.wakeup: how late a C program wakes on a grid.
 *
 *     wakeup PERIOD_NS COUNT PRIORITY > lateness      (int64 of this machine, one per wake-up)
 *
 * clock_nanosleep on CLOCK_MONOTONIC with absolute times, timer slack 1 ns, memory locked,
 * SCHED_FIFO. A wake-up later than a period goes on at the next place of the grid. What is refused
 * is said on the standard error; the loop runs all the same.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "wakeup: expected PERIOD_NS COUNT PRIORITY\n");
        return 2;
    }
    int64_t period = atoll(argv[1]);
    size_t count = (size_t)atoll(argv[2]);
    struct sched_param priority = {.sched_priority = atoi(argv[3])};
    int64_t *late = calloc(count, sizeof *late);
    if (period <= 0 || count == 0 || late == NULL) {
        fprintf(stderr, "wakeup: a period and a count of more than 0, and memory for them\n");
        return 2;
    }
    memset(late, 1, count * sizeof *late); /* its pages are there before the loop */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    if (mlockall(MCL_CURRENT | MCL_FUTURE))
        fprintf(stderr, "mlockall: %s\n", strerror(errno));
    if (priority.sched_priority > 0 && sched_setscheduler(0, SCHED_FIFO, &priority))
        fprintf(stderr, "SCHED_FIFO %d: %s\n", priority.sched_priority, strerror(errno));
    int64_t due = now_ns() + period;
    for (size_t i = 0; i < count; i++) {
        struct timespec at = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
            ;
        late[i] = now_ns() - due;
        due += period * (1 + late[i] / period);
    }
    return fwrite(late, sizeof *late, count, stdout) == count ? 0 : 1;
}
