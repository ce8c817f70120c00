#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "support.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATIENCE_S 20

/* ---- the allocator ---- */

static atomic_size_t live;
static atomic_long passes = -1; // allocations to pass before one fails
static atomic_bool failed;

static bool
must_fail(void)
{
    if (atomic_load(&passes) < 0) {
        return false;
    }
    if (atomic_fetch_sub(&passes, 1) > 0) {
        return false;
    }
    atomic_store(&failed, true);
    return true;
}

static void *
counted_allocate(size_t size)
{
    void *block = must_fail() ? NULL : malloc(size);
    if (block != NULL) {
        memset(block, 0xA5, size); // whoever needs zeros asks for them
        atomic_fetch_add(&live, 1);
    }
    return block;
}

static void *
counted_resize(void *block, size_t size)
{
    void *moved = must_fail() ? NULL : realloc(block, size);
    if (block == NULL && moved != NULL) {
        atomic_fetch_add(&live, 1);
    }
    return moved;
}

static void
counted_release(void *block)
{
    if (block != NULL) {
        atomic_fetch_sub(&live, 1);
    }
    free(block);
}

size_t
live_blocks(void)
{
    return atomic_load(&live);
}

void
fail_allocation_after(long count)
{
    atomic_store(&failed, false);
    atomic_store(&passes, count);
}

bool
has_allocation_failed(void)
{
    return atomic_load(&failed);
}

void
support_begin(void)
{
    static const struct ab_allocator counted = {
        counted_allocate, counted_resize, counted_release};
    ab_allocator_set(&counted);
}

static bool
has_no_blocks(void *context)
{
    (void)context;
    return live_blocks() == 0;
}

void
support_end(void)
{
    fail_allocation_after(-1);
    ab_aggregator_wake();
    if (!check_failed()) { // a test that failed may leave things behind
        (void)comes_true(has_no_blocks, NULL);
        CHECK_EQUAL(live_blocks(), 0);
    }
}

/* ---- small things ---- */

uint64_t
roll(struct dice *dice, uint64_t sides)
{
    dice->state ^= dice->state >> 12;
    dice->state ^= dice->state << 25;
    dice->state ^= dice->state >> 27;
    return ((dice->state * UINT64_C(2685821657736338717)) >> 11) % sides;
}

bool
comes_true(bool (*has_come)(void *), void *context)
{
    struct timespec turn = {0, 200000};
    for (long turns = PATIENCE_S * 5000L; turns > 0; turns--) {
        if (has_come(context)) {
            return true;
        }
        nanosleep(&turn, NULL);
    }
    return has_come(context);
}

bool
is_readable(const struct ab_mailbox *mailbox)
{
    struct pollfd poller = {.fd = mailbox->synced_data.wakefd.read_fd,
                            .events = POLLIN};
    return poll(&poller, 1, 0) == 1;
}

bool
has_mail(void *mailbox)
{
    return is_readable(mailbox);
}

struct ab_mailbox *
open_loop(void)
{
    struct ab_mailbox *mailbox = NULL;
    CHECK(ab_mailbox_new(&mailbox, true) == AB_OK);
    // Its own address stands for the loop, which nobody looks into.
    atomic_store(&mailbox->loop, mailbox);
    return mailbox;
}

void
advance_clock(int64_t step_ns)
{
    ab_aggregator_wake(); // what was read of timers was read before they fire
    ab_clock_advance(step_ns);
    ab_aggregator_wake();
}
