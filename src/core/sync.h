/* Mutexes, condition variables and the one way to start a native thread,
 * with the platforms' differences kept inside.
 */
#ifndef AB_CORE_SYNC_H
#define AB_CORE_SYNC_H

#include "core/base.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <pthread.h>
#endif

struct AB_CAPABILITY("mutex") ab_mutex {
#ifdef _WIN32
    SRWLOCK impl;
#else
    pthread_mutex_t impl;
#endif
};

struct ab_cond {
#ifdef _WIN32
    CONDITION_VARIABLE impl;
#else
    pthread_cond_t impl;
#endif
};

/* `init` over an initialized object is allowed in the child of a fork and
 * nowhere else: destroying one that has ghosts of the parent's threads
 * waiting would hang. */
void ab_mutex_init(struct ab_mutex *mutex);
void ab_mutex_fini(struct ab_mutex *mutex);
void ab_mutex_lock(struct ab_mutex *mutex) AB_ACQUIRES(*mutex);
void ab_mutex_unlock(struct ab_mutex *mutex) AB_RELEASES(*mutex);

void ab_cond_init(struct ab_cond *cond);
void ab_cond_fini(struct ab_cond *cond);
void ab_cond_signal(struct ab_cond *cond);
void ab_cond_broadcast(struct ab_cond *cond);

/* Wait for a signal or, with a deadline, until the system's monotonic time
 * reaches it.  May wake without either: wait in a loop over the predicate. */
void ab_cond_wait(struct ab_cond *cond, struct ab_mutex *mutex)
    AB_REQUIRES(*mutex);
void ab_cond_wait_until(struct ab_cond *cond, struct ab_mutex *mutex,
                        int64_t deadline_ns) AB_REQUIRES(*mutex);

/* Start a detached thread in which every signal but those of a fault in the
 * thread itself is blocked, so that it never runs a handler. */
enum ab_status ab_thread_start(void (*body)(void));

#endif
