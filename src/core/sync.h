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
#include <signal.h>
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

/* `init` over an initialized object is allowed in the child of a fork, and of
 * a mutex whose holder ended with the last interpreter (ab_workers_resume),
 * nowhere else: destroying one that has ghosts waiting would hang. */
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
/* The same by the clock of clock.h; AB_NEVER, and while that stands still: for
 * a signal. */
void ab_cond_wait_for_due(struct ab_cond *cond, struct ab_mutex *mutex,
                          int64_t due_ns) AB_REQUIRES(*mutex);

/* Signals.  A signal that is sent to the process may be handled in any thread
 * that does not block it, and then does not wake the main thread, which
 * alone runs Python's handlers, out of its wait.  So the threads of this
 * package block all signals but those of a fault in the thread itself, save
 * while they run code of the user's, whose child processes inherit the mask.
 */
struct ab_signals {
#ifdef _WIN32
    char unused;
#else
    sigset_t mask;
#endif
};

/* Block, and give what was in force before. */
void ab_signals_block(struct ab_signals *before);
/* Put `before` in force again. */
void ab_signals_restore(const struct ab_signals *before);
/* The same on a thread that should take none: signals that are pending are
 * first left, for a moment, to whom they concern, for to unblock is to take.
 */
void ab_signals_restore_last(const struct ab_signals *before);

/* Start a detached thread in which every signal but those of a fault in the
 * thread itself is blocked, so that it never runs a handler. */
enum ab_status ab_thread_start(void (*body)(void));

#endif
