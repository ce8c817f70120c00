/* The queue against a plain array that does the same naively. */
#include "core/queue.h"

#include "support.h"

#include <stdlib.h>

#define MODEL_ENTRIES 40000

struct model {
    size_t waiters[MODEL_ENTRIES]; // by number; 0: gone
    int64_t costs[MODEL_ENTRIES];
    size_t head, tail, length;
};

/* Take out the entry in place `number`, if it is no hole. */
static bool
drop_number(struct ab_queue *queue, uint64_t number, struct ab_entry *out)
{
    struct ab_cursor cursor = ab_queue_walk(queue, number);
    struct ab_entry *entry = ab_queue_next(queue, &cursor);
    if (entry == NULL || cursor.number != number + 1) {
        return false;
    }
    *out = ab_queue_take(queue, entry);
    (void)ab_queue_head(queue); // as those who drop do
    return true;
}

static int64_t
cost_of(struct dice *dice)
{
    return roll(dice, 4) == 0 ? INT64_MAX : (int64_t)roll(dice, 1000);
}

static void
push_some(struct ab_queue *queue, struct model *model, struct dice *dice)
{
    struct ab_entry entries[300];
    size_t count = 1 + roll(dice, roll(dice, 8) == 0 ? 300 : 12);
    for (size_t i = 0; i < count; i++) {
        size_t number = model->tail++;
        model->waiters[number] = number + 1;
        model->costs[number] = cost_of(dice);
        entries[i] = (struct ab_entry){.waiter = thing(number + 1),
                                       .value = thing(number + 7),
                                       .cost = model->costs[number]};
    }
    model->length += count;
    CHECK(ab_queue_push(queue, entries, count) == AB_OK);
}

static void
skip_holes(struct model *model)
{
    while (model->head < model->tail && model->waiters[model->head] == 0) {
        model->head++;
    }
}

static void
pop_some(struct ab_queue *queue, struct model *model, struct dice *dice)
{
    for (size_t count = roll(dice, 40); count > 0; count--) {
        skip_holes(model);
        struct ab_entry *head = ab_queue_head(queue);
        if (model->head == model->tail) {
            CHECK(head == NULL);
            return;
        }
        CHECK(head != NULL && head->waiter == thing(model->head + 1));
        struct ab_entry taken = ab_queue_pop(queue);
        CHECK(taken.waiter == thing(model->head + 1));
        CHECK(taken.value == thing(model->head + 7));
        CHECK(taken.cost == model->costs[model->head]);
        model->waiters[model->head++] = 0;
        model->length--;
    }
}

static void
drop_one(struct ab_queue *queue, struct model *model, struct dice *dice)
{
    size_t number = roll(dice, model->tail + 3);
    bool is_there = number < model->tail && number >= model->head &&
                    model->waiters[number] != 0;
    struct ab_entry out = {.waiter = thing(1)};
    CHECK(drop_number(queue, number, &out) == is_there);
    CHECK(out.waiter == thing(is_there ? number + 1 : 1));
    if (is_there) {
        model->waiters[number] = 0;
        model->length--;
    }
}

static void
walk_and_take(struct ab_queue *queue, struct model *model, struct dice *dice)
{
    size_t from = roll(dice, model->tail + 3), sides = 1 + roll(dice, 5);
    struct ab_cursor cursor = ab_queue_walk(queue, from);
    struct ab_entry *entry;
    for (size_t number = from; number < model->tail; number++) {
        if (model->waiters[number] == 0) {
            continue;
        }
        entry = ab_queue_next(queue, &cursor);
        if (!CHECK(entry != NULL && entry->waiter == thing(number + 1))) {
            return;
        }
        CHECK_EQUAL(cursor.number, number + 1);
        if (roll(dice, sides) == 1) {
            CHECK(ab_queue_take(queue, entry).waiter == thing(number + 1));
            model->waiters[number] = 0;
            model->length--;
        }
    }
    CHECK(ab_queue_next(queue, &cursor) == NULL);
    CHECK(ab_queue_next(queue, &cursor) == NULL);
}

static void
compare(const struct ab_queue *queue, const struct model *model)
{
    struct ab_cost sum = {0};
    size_t length = 0;
    for (size_t i = model->head; i < model->tail; i++) {
        if (model->waiters[i] != 0) {
            uint64_t low = sum.low + (uint64_t)model->costs[i];
            sum.high += low < sum.low ? 1 : 0;
            sum.low = low;
            length++;
        }
    }
    CHECK_EQUAL(queue->length, length);
    CHECK_EQUAL(model->length, length);
    CHECK(queue->cost.low == sum.low && queue->cost.high == sum.high);
    CHECK_EQUAL(queue->tail_number, model->tail);
}

static void
queue_does_what_an_array_does(void)
{
    struct model *model = calloc(1, sizeof *model);
    struct ab_queue queue;
    ab_queue_init(&queue);
    struct dice dice = {20240601};
    REQUIRE(model != NULL);
    for (size_t round = 0; model->tail < MODEL_ENTRIES - 400; round++) {
        switch (roll(&dice, 7)) {
        case 0:
        case 1:
            push_some(&queue, model, &dice);
            break;
        case 2:
        case 3:
            pop_some(&queue, model, &dice);
            break;
        case 4:
            walk_and_take(&queue, model, &dice);
            break;
        default:
            drop_one(&queue, model, &dice);
            break;
        }
        compare(&queue, model);
        if (check_failed()) {
            break;
        }
    }
    ab_queue_fini(&queue);
    free(model);
}

static struct ab_entry
entry(size_t number, int64_t cost)
{
    return (struct ab_entry){.waiter = thing(number), .cost = cost};
}

static void
hole_at_the_head_is_skipped(void)
{
    struct ab_queue queue;
    struct ab_entry out, entries[] = {entry(1, 5), entry(2, 6), entry(3, 7)};
    ab_queue_init(&queue);
    REQUIRE(ab_queue_push(&queue, entries, 3) == AB_OK);
    CHECK(drop_number(&queue, 1, &out));
    CHECK(drop_number(&queue, 0, &out));
    CHECK_EQUAL(queue.head_number, 2); // both places were given up
    CHECK(ab_queue_head(&queue)->waiter == thing(3));
    CHECK(!drop_number(&queue, 0, &out));
    CHECK(!drop_number(&queue, 1, &out));
    CHECK(ab_queue_pop(&queue).waiter == thing(3));
    CHECK(ab_queue_head(&queue) == NULL);
    CHECK_EQUAL(queue.cost.low, 0);
    ab_queue_fini(&queue);
}

static void
sums_of_the_dearest_items_are_exact(void)
{
    struct ab_queue queue;
    struct ab_entry entries[300];
    ab_queue_init(&queue);
    for (size_t i = 0; i < 300; i++) {
        entries[i] = entry(i + 1, INT64_MAX);
    }
    REQUIRE(ab_queue_push(&queue, entries, 300) == AB_OK);
    // 300 * (2**63 - 1) == 150 * 2**64 - 300
    CHECK_EQUAL(queue.cost.high, 149);
    CHECK(queue.cost.low == UINT64_MAX - 299);
    CHECK(ab_cost_reaches(&queue.cost, INT64_MAX));
    for (size_t i = 0; i < 299; i++) {
        (void)ab_queue_pop(&queue);
    }
    CHECK_EQUAL(queue.cost.high, 0);
    CHECK_EQUAL(queue.cost.low, INT64_MAX);
    (void)ab_queue_pop(&queue);
    CHECK(!ab_cost_reaches(&queue.cost, 1));
    CHECK(ab_cost_reaches(&queue.cost, 0));
    ab_queue_fini(&queue);
}

static void
steady_queue_allocates_nothing(void)
{
    struct ab_queue queue;
    ab_queue_init(&queue);
    struct ab_entry entries[] = {entry(1, 0), entry(2, 0), entry(3, 0)};
    for (size_t i = 0; i < 100; i++) {
        REQUIRE(ab_queue_push(&queue, entries, 3) == AB_OK);
    }
    for (size_t i = 0; i < 300; i++) {
        (void)ab_queue_pop(&queue);
    }
    CHECK(live_blocks() <= 2); // a million leaves no more behind
    REQUIRE(ab_queue_push(&queue, entries, 3) == AB_OK);
    fail_allocation_after(0);
    for (size_t i = 0; i < 1000; i++) {
        (void)ab_queue_pop(&queue);
        CHECK(ab_queue_push(&queue, entries, 1) == AB_OK);
    }
    CHECK(!has_allocation_failed());
    ab_queue_fini(&queue);
}

static void
failed_push_changes_nothing(void)
{
    struct ab_entry entries[300];
    for (size_t i = 0; i < 300; i++) {
        entries[i] = entry(i + 1, 1);
    }
    for (long fails_at = 0; fails_at < 4; fails_at++) {
        struct ab_queue queue;
        ab_queue_init(&queue);
        CHECK(ab_queue_push(&queue, entries, 2) == AB_OK);
        size_t before = live_blocks();
        fail_allocation_after(fails_at);
        enum ab_status status = ab_queue_push(&queue, entries, 300);
        fail_allocation_after(-1);
        CHECK(status == (fails_at < 3 ? AB_NO_MEMORY : AB_OK));
        if (status != AB_OK) {
            CHECK_EQUAL(live_blocks(), before);
            CHECK_EQUAL(queue.length, 2);
            CHECK_EQUAL(queue.cost.low, 2);
            CHECK(ab_queue_push(&queue, entries, 300) == AB_OK);
        }
        CHECK_EQUAL(queue.length, 302);
        CHECK(ab_queue_pop(&queue).waiter == thing(1));
        CHECK(ab_queue_pop(&queue).waiter == thing(2));
        for (size_t i = 0; i < 300; i++) {
            CHECK(ab_queue_pop(&queue).waiter == thing(i + 1));
        }
        ab_queue_fini(&queue);
    }
}

const struct test queue_tests[] = {
    TEST(queue_does_what_an_array_does),
    TEST(hole_at_the_head_is_skipped),
    TEST(sums_of_the_dearest_items_are_exact),
    TEST(steady_queue_allocates_nothing),
    TEST(failed_push_changes_nothing),
    TESTS_END,
};
