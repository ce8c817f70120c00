#include "core/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct ab_allocator libc_allocator = {malloc, realloc, free};
static struct ab_allocator current = {malloc, realloc, free};

void
ab_allocator_set(const struct ab_allocator *allocator)
{
    current = allocator != NULL ? *allocator : libc_allocator;
}

void *
ab_allocate(size_t size)
{
    void *block = current.allocate(size);
    if (block != NULL) {
        memset(block, 0, size);
    }
    return block;
}

void *
ab_resize(void *block, size_t size)
{
    return current.resize(block, size);
}

void
ab_release(void *block)
{
    current.release(block);
}

_Noreturn void
ab_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, condition);
    abort();
}
