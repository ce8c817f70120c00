/* What every file of the core stands on: status codes, assertions, the
 * allocator, and the words in which declarations state their locks.
 *
 * The core decides when a batch is due and who waits for it.  It never
 * includes Python.h: code that cannot name a Python object cannot touch one
 * while it holds a lock.  Items, waiters and results are opaque pointers.
 */
#ifndef AB_CORE_BASE_H
#define AB_CORE_BASE_H

/* Before any header of the system: -std=c11 alone hides POSIX. */
#if defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE
#elif !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ab_status {
    AB_OK = 0,
    AB_FULL,      // the queue has no room
    AB_CLOSED,    // no new entries are taken
    AB_QUITTING,  // the interpreter ends: no worker will run anything
    AB_NO_HOST,   // no open loop could run the batch
    AB_NO_LINK,   // the loop is not known here yet: ab_batcher_link first
    AB_NO_MEMORY, // an allocation failed; nothing changed
    AB_NO_THREAD, // the aggregation thread could not be created
};

/* clang checks these under -Wthread-safety; elsewhere they vanish. */
#if defined(__clang__)
#define AB_CAPABILITY(name) __attribute__((capability(name)))
#define AB_ACQUIRES(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define AB_RELEASES(...) __attribute__((release_capability(__VA_ARGS__)))
#define AB_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define AB_EXCLUDES(...) __attribute__((locks_excluded(__VA_ARGS__)))
#define AB_UNCHECKED __attribute__((no_thread_safety_analysis))
#else
#define AB_CAPABILITY(name)
#define AB_ACQUIRES(...)
#define AB_RELEASES(...)
#define AB_REQUIRES(...)
#define AB_EXCLUDES(...)
#define AB_UNCHECKED
#endif

/* A broken invariant ends the process in debug builds. */
#ifdef AB_DEBUG
#define AB_ASSERT(condition)                                                  \
    ((condition) ? (void)0 : ab_assert_failed(#condition, __FILE__, __LINE__))
#else
#define AB_ASSERT(condition) ((void)0)
#endif

_Noreturn void ab_assert_failed(const char *condition, const char *file,
                                int line);

/* The allocator.  Tests replace it to make each allocation fail in turn. */
struct ab_allocator {
    void *(*allocate)(size_t size);
    void *(*resize)(void *block, size_t size);
    void (*release)(void *block);
};

/* NULL restores the C library's.  Thread: any, before first use. */
void ab_allocator_set(const struct ab_allocator *allocator);

void *ab_allocate(size_t size); // zeroed; NULL when there is no memory
void *ab_resize(void *block, size_t size);
void ab_release(void *block);

/* A count of owners that any thread may change. */
struct ab_count {
    atomic_size_t value;
};

static inline void
ab_count_init(struct ab_count *count)
{
    atomic_init(&count->value, 1);
}

static inline void
ab_count_acquire(struct ab_count *count)
{
    // A new owner is handed the object by an old one: nothing to order.
    atomic_fetch_add_explicit(&count->value, 1, memory_order_relaxed);
}

/* True for the last owner, who frees the object.  Every earlier owner's
 * writes are visible to it. */
static inline bool
ab_count_release(struct ab_count *count)
{
    return atomic_fetch_sub_explicit(&count->value, 1, memory_order_acq_rel) ==
           1;
}

#endif
