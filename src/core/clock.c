#include "core/clock.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <time.h>
#endif

#define AB_SECOND_NS 1000000000

// Both are written by tests only.  Relaxed: a reader that sees an older value
// behaves as if it had read the clock a moment earlier.
static _Atomic int64_t frozen_ns; // 0: the clock runs
static _Atomic int64_t offset_ns; // clock minus system time while it runs

static int64_t
system_now_ns(void)
{
#ifdef _WIN32
    LARGE_INTEGER frequency, ticks;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&ticks);
    int64_t whole = ticks.QuadPart / frequency.QuadPart;
    int64_t rest = ticks.QuadPart % frequency.QuadPart;
    return whole * AB_SECOND_NS + rest * AB_SECOND_NS / frequency.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * AB_SECOND_NS + now.tv_nsec;
#endif
}

int64_t
ab_clock_now_ns(void)
{
    int64_t frozen = atomic_load_explicit(&frozen_ns, memory_order_relaxed);
    if (frozen != 0) {
        return frozen;
    }
    return system_now_ns() +
           atomic_load_explicit(&offset_ns, memory_order_relaxed);
}

void
ab_clock_freeze(void)
{
    atomic_store_explicit(&frozen_ns, ab_clock_now_ns(), memory_order_relaxed);
}

void
ab_clock_advance(int64_t step_ns)
{
    atomic_fetch_add_explicit(&frozen_ns, step_ns, memory_order_relaxed);
}

void
ab_clock_thaw(void)
{
    int64_t frozen = atomic_load_explicit(&frozen_ns, memory_order_relaxed);
    if (frozen != 0) {
        atomic_store_explicit(&offset_ns, frozen - system_now_ns(),
                              memory_order_relaxed);
        atomic_store_explicit(&frozen_ns, 0, memory_order_relaxed);
    }
}

bool
ab_clock_is_frozen(void)
{
    return atomic_load_explicit(&frozen_ns, memory_order_relaxed) != 0;
}

int64_t
ab_clock_to_system_ns(int64_t when_ns)
{
    return when_ns - atomic_load_explicit(&offset_ns, memory_order_relaxed);
}
