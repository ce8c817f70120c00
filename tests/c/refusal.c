#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE // RTLD_NEXT
#endif

#include "refusal.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_bool is_refusing;
static atomic_size_t refused;

void
refuse_threads(bool is_refused)
{
    atomic_store(&is_refusing, is_refused);
}

size_t
refused_threads(void)
{
    return atomic_load(&refused);
}

/* Stands before the one of the C library, or of the sanitizer. */
int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
               void *(*body)(void *), void *argument)
{
    if (atomic_load(&is_refusing)) {
        atomic_fetch_add(&refused, 1);
        return EAGAIN;
    }
    // A function pointer may not travel as a void *, but its bytes may.
    union {
        void *symbol;
        int (*call)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                    void *);
    } next = {.symbol = dlsym(RTLD_NEXT, "pthread_create")};
    return next.call(thread, attributes, body, argument);
}
