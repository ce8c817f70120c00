#include "core/meter.h"

void
ab_histogram_add(struct ab_histogram *histogram, int64_t time_ns)
{
    size_t bucket = 0;
    for (int64_t rest_us = time_ns / 1000;
         rest_us > 0 && bucket < AB_HISTOGRAM_BUCKETS - 1; rest_us >>= 1) {
        bucket++;
    }
    histogram->count++;
    histogram->sum_ns += time_ns;
    histogram->buckets[bucket]++;
}

static void
close_period(struct ab_meter *meter, int64_t now_ns)
{
    if (meter->since_ns == 0) {
        return;
    }
    int64_t *account = meter->is_busy ? &meter->busy_ns : &meter->idle_ns;
    *account += now_ns - meter->since_ns;
}

void
ab_meter_turn(struct ab_meter *meter, bool is_busy, int64_t now_ns)
{
    if (meter->since_ns != 0 && meter->is_busy == is_busy) {
        return;
    }
    close_period(meter, now_ns);
    meter->since_ns = now_ns;
    meter->is_busy = is_busy;
}

struct ab_meter
ab_meter_read(const struct ab_meter *meter, int64_t now_ns)
{
    struct ab_meter copy = *meter;
    close_period(&copy, now_ns);
    return copy;
}
