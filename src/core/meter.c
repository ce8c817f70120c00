#include "core/meter.h"

void
ab_histogram_add(struct ab_histogram *histogram, int64_t time_ns)
{
    // A bucket for each length in bits, found by halves: once for every item.
    uint64_t rest_us = time_ns > 0 ? (uint64_t)time_ns / 1000 : 0;
    size_t bucket = rest_us > 0;
    for (unsigned half = 32; half > 0; half /= 2) {
        if (rest_us >> half > 0) {
            rest_us >>= half;
            bucket += half;
        }
    }
    if (bucket >= AB_HISTOGRAM_BUCKETS) {
        bucket = AB_HISTOGRAM_BUCKETS - 1;
    }
    histogram->count++;
    histogram->sum_ns += time_ns;
    histogram->buckets[bucket]++;
}

static void
close_period(struct ab_meter *meter, int64_t now_ns)
{
    int64_t period_ns = now_ns - meter->since_ns;
    if (meter->account == AB_ACCOUNT_BUSY) {
        meter->busy_ns += period_ns;
    }
    else if (meter->account == AB_ACCOUNT_IDLE) {
        meter->idle_ns += period_ns;
    }
}

void
ab_meter_turn(struct ab_meter *meter, enum ab_account account, int64_t now_ns)
{
    if (meter->account == account) {
        return;
    }
    close_period(meter, now_ns);
    meter->since_ns = now_ns;
    meter->account = account;
}

struct ab_meter
ab_meter_read(const struct ab_meter *meter, int64_t now_ns)
{
    struct ab_meter copy = *meter;
    close_period(&copy, now_ns);
    return copy;
}
