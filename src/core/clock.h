/* The one place where time enters: monotonic nanoseconds, or a clock that
 * stands still and moves only when a test says so.
 */
#ifndef AB_CORE_CLOCK_H
#define AB_CORE_CLOCK_H

#include "core/base.h"

#define AB_NEVER INT64_MAX

/* Nanoseconds since some fixed moment; never goes back.  Thread: any. */
int64_t ab_clock_now_ns(void);

/* The test clock.  While frozen, time moves by `advance` alone; whoever
 * advances also wakes the aggregator (ab_aggregator_wake).  Thawing goes on
 * from the frozen moment, so time does not go back. */
void ab_clock_freeze(void);
void ab_clock_advance(int64_t step_ns);
void ab_clock_thaw(void);
bool ab_clock_is_frozen(void);

/* The operating system's monotonic time at the clock's `when_ns`. */
int64_t ab_clock_to_system_ns(int64_t when_ns);

#endif
