/* What a batcher counts: items by how they ended, batches by why they went,
 * histograms of times, and how long it was busy.  Plain numbers; the caller
 * holds the batcher's mutex.
 */
#ifndef AB_CORE_METER_H
#define AB_CORE_METER_H

#include "core/policy.h"

/* Bucket k counts times below 2^k microseconds; the last one all others. */
#define AB_HISTOGRAM_BUCKETS 32

struct ab_histogram {
    uint64_t count;
    int64_t sum_ns;
    uint64_t buckets[AB_HISTOGRAM_BUCKETS];
};

void ab_histogram_add(struct ab_histogram *histogram, int64_t time_ns);

enum ab_account {
    AB_ACCOUNT_NONE, // before the first use, and once it is stopped
    AB_ACCOUNT_IDLE,
    AB_ACCOUNT_BUSY, // running > 0
};

struct ab_meter {
    uint64_t submitted, completed, failed, cancelled, rejected;
    uint64_t batches, batched_items;
    struct ab_cost total_cost; // of all batches
    uint64_t reasons[AB_REASONS];
    struct ab_histogram queue_wait, batch_time;
    int64_t busy_ns, idle_ns; // of the periods that ended
    int64_t since_ns;         // start of the current period; 0: never used
    enum ab_account account;  // that the current period goes to
};

/* A period of `account` begins, unless one is in progress. */
void ab_meter_turn(struct ab_meter *meter, enum ab_account account,
                   int64_t now_ns);

/* A copy whose busy and idle times include the period in progress. */
struct ab_meter ab_meter_read(const struct ab_meter *meter, int64_t now_ns);

#endif
