#include "core/sync.h"

#include "core/clock.h"

#ifdef _WIN32

void
ab_mutex_init(struct ab_mutex *mutex)
{
    InitializeSRWLock(&mutex->impl);
}
void
ab_mutex_fini(struct ab_mutex *mutex)
{
    (void)mutex;
}
void
ab_mutex_lock(struct ab_mutex *mutex)
{
    AcquireSRWLockExclusive(&mutex->impl);
}
void
ab_mutex_unlock(struct ab_mutex *mutex)
{
    ReleaseSRWLockExclusive(&mutex->impl);
}
void
ab_cond_init(struct ab_cond *cond)
{
    InitializeConditionVariable(&cond->impl);
}
void
ab_cond_fini(struct ab_cond *cond)
{
    (void)cond;
}
void
ab_cond_signal(struct ab_cond *cond)
{
    WakeConditionVariable(&cond->impl);
}
void
ab_cond_broadcast(struct ab_cond *cond)
{
    WakeAllConditionVariable(&cond->impl);
}

void
ab_cond_wait(struct ab_cond *cond, struct ab_mutex *mutex)
{
    SleepConditionVariableSRW(&cond->impl, &mutex->impl, INFINITE, 0);
}

void
ab_cond_wait_until(struct ab_cond *cond, struct ab_mutex *mutex,
                   int64_t deadline_ns)
{
    int64_t left_ms = (deadline_ns - ab_clock_now_ns() + 999999) / 1000000;
    DWORD wait_ms = left_ms <= 0             ? 0
                    : left_ms < INFINITE - 1 ? (DWORD)left_ms
                                             : INFINITE - 1;
    SleepConditionVariableSRW(&cond->impl, &mutex->impl, wait_ms, 0);
}

void
ab_signals_block(struct ab_signals *before)
{
    (void)before;
}
void
ab_signals_restore(const struct ab_signals *before)
{
    (void)before;
}
void
ab_signals_restore_last(const struct ab_signals *before)
{
    (void)before;
}

static DWORD WINAPI
thread_main(void *body)
{
    ((void (*)(void))body)();
    return 0;
}

enum ab_status
ab_thread_start(void (*body)(void))
{
    HANDLE thread = CreateThread(NULL, 0, thread_main, (void *)body, 0, NULL);
    if (thread == NULL) {
        return AB_NO_THREAD;
    }
    CloseHandle(thread);
    return AB_OK;
}

#else

#include <time.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define AB_SECOND_NS 1000000000
#define AB_PENDING_ROUNDS 20 // of a millisecond each

void
ab_mutex_init(struct ab_mutex *mutex)
{
    pthread_mutex_init(&mutex->impl, NULL);
}

void
ab_mutex_fini(struct ab_mutex *mutex)
{
    pthread_mutex_destroy(&mutex->impl);
}

void
ab_mutex_lock(struct ab_mutex *mutex) AB_UNCHECKED
{
    int error = pthread_mutex_lock(&mutex->impl);
    AB_ASSERT(error == 0);
    (void)error;
}

void
ab_mutex_unlock(struct ab_mutex *mutex) AB_UNCHECKED
{
    int error = pthread_mutex_unlock(&mutex->impl);
    AB_ASSERT(error == 0);
    (void)error;
}

void
ab_cond_init(struct ab_cond *cond)
{
#ifdef __APPLE__
    pthread_cond_init(&cond->impl, NULL);
#else
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cond->impl, &attributes);
    pthread_condattr_destroy(&attributes);
#endif
}

void
ab_cond_fini(struct ab_cond *cond)
{
    pthread_cond_destroy(&cond->impl);
}

void
ab_cond_signal(struct ab_cond *cond)
{
    pthread_cond_signal(&cond->impl);
}

void
ab_cond_broadcast(struct ab_cond *cond)
{
    pthread_cond_broadcast(&cond->impl);
}

void
ab_cond_wait(struct ab_cond *cond, struct ab_mutex *mutex)
{
    pthread_cond_wait(&cond->impl, &mutex->impl);
}

void
ab_cond_wait_until(struct ab_cond *cond, struct ab_mutex *mutex,
                   int64_t deadline_ns)
{
#ifdef __APPLE__
    int64_t left_ns = deadline_ns - ab_clock_now_ns();
    left_ns = left_ns > 0 ? left_ns : 0;
    struct timespec left = {(time_t)(left_ns / AB_SECOND_NS),
                            (long)(left_ns % AB_SECOND_NS)};
    pthread_cond_timedwait_relative_np(&cond->impl, &mutex->impl, &left);
#else
    struct timespec deadline = {(time_t)(deadline_ns / AB_SECOND_NS),
                                (long)(deadline_ns % AB_SECOND_NS)};
    pthread_cond_timedwait(&cond->impl, &mutex->impl, &deadline);
#endif
}

void
ab_signals_block(struct ab_signals *before)
{
    sigset_t blocked;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before->mask);
}

static bool
would_take_one(const struct ab_signals *before)
{
    sigset_t pending;
    sigpending(&pending);
    for (int number = 1; number < NSIG; number++) {
        if (sigismember(&pending, number) == 1 &&
            sigismember(&before->mask, number) == 0) {
            return true;
        }
    }
    return false;
}

void
ab_signals_restore(const struct ab_signals *before)
{
    pthread_sigmask(SIG_SETMASK, &before->mask, NULL);
}

void
ab_signals_restore_last(const struct ab_signals *before)
{
    struct timespec millisecond = {0, 1000000};
    for (int i = 0; i < AB_PENDING_ROUNDS && would_take_one(before); i++) {
        nanosleep(&millisecond, NULL);
    }
    ab_signals_restore(before);
}

static void *
thread_main(void *body)
{
#ifdef __linux__
    // The kernel may be late by this much, 50 us where nothing is said.
    (void)prctl(PR_SET_TIMERSLACK, 1UL);
#endif
    (*(void (**)(void))body)();
    return NULL;
}

enum ab_status
ab_thread_start(void (*body)(void))
{
    // A function pointer may not travel as a void *: it waits here.  There is
    // one body in the whole process, so the slot never changes its value.
    static void (*slot)(void);
    slot = body;

    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return AB_NO_THREAD;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);

    struct ab_signals before;
    ab_signals_block(&before);
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, thread_main, &slot);
    ab_signals_restore(&before);

    pthread_attr_destroy(&attributes);
    return error == 0 ? AB_OK : AB_NO_THREAD;
}

#endif

void
ab_cond_wait_for_due(struct ab_cond *cond, struct ab_mutex *mutex,
                     int64_t due_ns)
{
    if (due_ns == AB_NEVER || ab_clock_is_frozen()) {
        ab_cond_wait(cond, mutex);
    }
    else {
        ab_cond_wait_until(cond, mutex, ab_clock_to_system_ns(due_ns));
    }
}
