/* What all test files share: an allocator that counts and fails on demand, a
 * deterministic source of numbers, and patience.
 */
#ifndef AB_TESTS_SUPPORT_H
#define AB_TESTS_SUPPORT_H

#include "core/clock.h"
#include "core/mailbox.h"
#include "harness.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

/* Around every test.  The end demands that every block was given back; the
 * aggregation thread gets time for what it still holds. */
void support_begin(void);
void support_end(void);

size_t live_blocks(void);

/* Let `count` more allocations pass and one fail; -1: none fails. */
void fail_allocation_after(long count);
bool has_allocation_failed(void); // since the call before

/* xorshift64*: the same numbers in every run. */
struct dice {
    uint64_t state;
};
uint64_t roll(struct dice *dice, uint64_t sides);

/* Waiters and items are never looked into: numbers serve. */
static inline void *
thing(size_t number)
{
    return (void *)(uintptr_t)number;
}

/* Is there something to read in the fd? */
bool is_readable(const struct ab_mailbox *mailbox);
bool has_mail(void *mailbox); // the same, for comes_true

struct ab_mailbox *open_loop(void); // a mailbox with a fd

void advance_clock(int64_t step_ns); // and wake the aggregation thread

/* Wait, by turns of the processor, until `has_come` says so or a generous
 * time is over. */
bool comes_true(bool (*has_come)(void *), void *context);

#endif
