#include "core/meter.h"

#include "support.h"

static size_t
bucket_of(int64_t time_ns)
{
    struct ab_histogram histogram = {0};
    ab_histogram_add(&histogram, time_ns);
    for (size_t i = 0; i < AB_HISTOGRAM_BUCKETS; i++) {
        if (histogram.buckets[i] == 1) {
            return i;
        }
    }
    return AB_HISTOGRAM_BUCKETS;
}

static void
bucket_k_counts_times_below_two_to_the_k_microseconds(void)
{
    CHECK_EQUAL(bucket_of(0), 0);
    CHECK_EQUAL(bucket_of(999), 0);
    for (size_t k = 0; k < AB_HISTOGRAM_BUCKETS - 2; k++) {
        int64_t edge_ns = (INT64_C(1) << k) * 1000;
        CHECK_EQUAL(bucket_of(edge_ns - 1), k);
        CHECK_EQUAL(bucket_of(edge_ns), k + 1);
    }
    CHECK_EQUAL(bucket_of(INT64_MAX), AB_HISTOGRAM_BUCKETS - 1);
    CHECK_EQUAL(bucket_of(-5), 0);
}

static void
histogram_keeps_count_and_sum(void)
{
    struct ab_histogram histogram = {0};
    ab_histogram_add(&histogram, 1500);
    ab_histogram_add(&histogram, 2500);
    CHECK_EQUAL(histogram.count, 2);
    CHECK_EQUAL(histogram.sum_ns, 4000);
    CHECK_EQUAL(histogram.buckets[1], 1);
    CHECK_EQUAL(histogram.buckets[2], 1);
}

static void
time_is_busy_or_idle_from_the_first_use_on(void)
{
    struct ab_meter meter = {0};
    struct ab_meter reading = ab_meter_read(&meter, 100);
    CHECK_EQUAL(reading.busy_ns + reading.idle_ns, 0); // never used
    ab_meter_turn(&meter, AB_ACCOUNT_IDLE, 1000);
    ab_meter_turn(&meter, AB_ACCOUNT_IDLE,
                  1200); // no change: the period goes on
    ab_meter_turn(&meter, AB_ACCOUNT_BUSY, 1500);
    ab_meter_turn(&meter, AB_ACCOUNT_BUSY, 1600);
    reading = ab_meter_read(&meter, 1700);
    CHECK_EQUAL(reading.idle_ns, 500);
    CHECK_EQUAL(reading.busy_ns, 200);
    reading = ab_meter_read(&meter, 1900); // reading changes nothing
    CHECK_EQUAL(reading.busy_ns, 400);
    ab_meter_turn(&meter, AB_ACCOUNT_IDLE, 2000);
    reading = ab_meter_read(&meter, 2010);
    CHECK_EQUAL(reading.busy_ns, 500);
    CHECK_EQUAL(reading.idle_ns, 510);
}

static void
no_account_is_kept_once_it_is_stopped(void)
{
    struct ab_meter meter = {0};
    ab_meter_turn(&meter, AB_ACCOUNT_IDLE, 1000);
    ab_meter_turn(&meter, AB_ACCOUNT_NONE, 1300);
    struct ab_meter reading = ab_meter_read(&meter, 9000);
    CHECK_EQUAL(reading.idle_ns, 300);
    CHECK_EQUAL(reading.busy_ns, 0);
    ab_meter_turn(&meter, AB_ACCOUNT_IDLE, 10000); // started again
    reading = ab_meter_read(&meter, 10050);
    CHECK_EQUAL(reading.idle_ns, 350);
}

static void
first_use_may_be_busy(void)
{
    struct ab_meter meter = {0};
    ab_meter_turn(&meter, AB_ACCOUNT_BUSY, 10);
    struct ab_meter reading = ab_meter_read(&meter, 15);
    CHECK_EQUAL(reading.busy_ns, 5);
    CHECK_EQUAL(reading.idle_ns, 0);
}

const struct test meter_tests[] = {
    TEST(bucket_k_counts_times_below_two_to_the_k_microseconds),
    TEST(histogram_keeps_count_and_sum),
    TEST(time_is_busy_or_idle_from_the_first_use_on),
    TEST(no_account_is_kept_once_it_is_stopped),
    TEST(first_use_may_be_busy),
    TESTS_END,
};
