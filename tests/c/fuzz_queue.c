/* Any sequence of calls on a queue, with the line of prefetched batches and
 * the policy over it, beside a model that is too plain to be wrong: an array
 * that is searched from its start each time.  libFuzzer makes the sequences;
 * `make fuzz` builds this apart from the other tests.
 */
#include "core/policy.h"
#include "core/prefetch.h"
#include "core/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ENTRIES 4096

#define MUST(condition)                                                       \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__,        \
                    #condition);                                              \
            abort();                                                          \
        }                                                                     \
    } while (0)

struct model {
    uint64_t numbers[MOST_ENTRIES]; // of the entries that wait, in order
    int64_t costs[MOST_ENTRIES];
    size_t length;
    uint64_t next;
};

struct input {
    const uint8_t *bytes;
    size_t left;
};

static unsigned
next_byte(struct input *input)
{
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->bytes++;
}

/* ---- the allocator: one that fails when the input says so ---- */

static bool is_failing;

static void *
allocate(size_t size)
{
    return is_failing ? NULL : malloc(size);
}

static void *
resize(void *block, size_t size)
{
    return is_failing ? NULL : realloc(block, size);
}

/* ---- the calls ---- */

static void
push(struct ab_queue *queue, struct model *model, struct input *input)
{
    static struct ab_entry entries[256];
    size_t count = next_byte(input);
    int64_t cost = (int64_t)next_byte(input);
    if (cost > 250) {
        cost = INT64_MAX - cost; // sums go beyond 64 bits
    }
    if (model->length + count > MOST_ENTRIES) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        entries[i] = (struct ab_entry){
            .value = (void *)(uintptr_t)(model->next + i + 1),
            .waiter = entries,
            .cost = cost,
        };
    }
    enum ab_status status = ab_queue_push(queue, entries, count);
    MUST(status == AB_OK || (is_failing && status == AB_NO_MEMORY));
    for (size_t i = 0; status == AB_OK && i < count; i++) {
        model->numbers[model->length] = model->next++;
        model->costs[model->length++] = cost;
    }
}

static void
forget(struct model *model, size_t at)
{
    size_t behind = model->length - at - 1;
    memmove(&model->numbers[at], &model->numbers[at + 1],
            behind * sizeof model->numbers[0]);
    memmove(&model->costs[at], &model->costs[at + 1],
            behind * sizeof model->costs[0]);
    model->length--;
}

static void
pop(struct ab_queue *queue, struct model *model, size_t count)
{
    for (; count > 0 && model->length > 0; count--) {
        struct ab_entry entry = ab_queue_pop(queue);
        MUST((uintptr_t)entry.value == model->numbers[0] + 1);
        MUST(entry.cost == model->costs[0]);
        forget(model, 0);
    }
}

/* Walk from a number, and leave a hole in each `step`th place. */
static void
take(struct ab_queue *queue, struct model *model, uint64_t from, size_t step)
{
    struct ab_cursor cursor = ab_queue_walk(queue, from);
    size_t at = 0, count = 0;
    while (at < model->length && model->numbers[at] < from) {
        at++;
    }
    for (struct ab_entry *entry;
         (entry = ab_queue_next(queue, &cursor)) != NULL; count++) {
        MUST(at < model->length);
        MUST((uintptr_t)entry->value == model->numbers[at] + 1);
        MUST(cursor.number == model->numbers[at] + 1);
        if (step > 0 && count % step == 0) {
            (void)ab_queue_take(queue, entry);
            forget(model, at);
        }
        else {
            at++;
        }
    }
    MUST(at == model->length);
}

/* ---- what must hold ---- */

typedef unsigned __int128 wide;

static wide
wide_of(const struct ab_cost *cost)
{
    return ((wide)cost->high << 64) | cost->low;
}

static void
check_queue(struct ab_queue *queue, const struct model *model)
{
    wide sum = 0;
    for (size_t i = 0; i < model->length; i++) {
        sum += (wide)model->costs[i];
    }
    MUST(queue->length == model->length);
    MUST(wide_of(&queue->cost) == sum);
    MUST(queue->tail_number == model->next);
    const struct ab_entry *head = ab_queue_head(queue);
    MUST((head == NULL) == (model->length == 0));
    MUST(head == NULL || (uintptr_t)head->value == model->numbers[0] + 1);
}

static void
check_prefetch(const struct ab_prefetch *ahead, const struct ab_limits *limits,
               const struct model *model, size_t most)
{
    size_t batches = 0, size = 0, entries = 0;
    wide cost = 0, last = 0;
    for (; entries < model->length; entries++) {
        wide own = (wide)model->costs[entries];
        bool fits = batches > 0 && (int64_t)size < limits->max_batch_size &&
                    last + own <= (wide)limits->max_batch_cost;
        if (!fits && batches == most) {
            break;
        }
        batches += !fits;
        size = fits ? size + 1 : 1;
        last = fits ? last + own : own;
        cost += own;
    }
    MUST(ahead->batches == batches);
    MUST(ahead->entries == entries);
    MUST(wide_of(&ahead->cost) == cost);
}

static void
check_policy(const struct ab_queue *queue, const struct ab_prefetch *ahead,
             const struct ab_limits *limits, unsigned how)
{
    struct ab_view view = {
        .waiting = queue->length,
        .cost = queue->cost,
        .ahead = ahead->entries,
        .ahead_cost = ahead->cost,
        .oldest_ns = 1000,
        .running = how & 1U,
        .is_draining = (how & 2U) != 0,
        .is_flushing = (how & 4U) != 0,
    };
    int64_t now_ns = (how & 8U) != 0 ? 1000 + limits->window_ns : 1000;
    struct ab_verdict verdict = ab_policy_decide(limits, &view, now_ns);
    if (view.waiting == 0 || (int64_t)view.running >= limits->concurrency) {
        MUST(verdict.action == AB_REST);
        return;
    }
    bool is_due = (how & 14U) != 0 || limits->window_ns == 0 ||
                  (int64_t)view.waiting >= limits->max_batch_size ||
                  wide_of(&view.cost) >= (wide)limits->max_batch_cost;
    MUST((verdict.action == AB_CUT) == is_due);
    MUST(is_due || verdict.due_ns == 1000 + limits->window_ns);

    struct ab_cost one = {.low = how};
    size_t queued = view.waiting - view.ahead;
    wide waiting = wide_of(&view.cost) - wide_of(&view.ahead_cost);
    bool has_room =
        (int64_t)queued < limits->max_queue_size &&
        (queued == 0 || waiting + how <= (wide)limits->max_queue_cost);
    MUST(ab_policy_admits(limits, &view, 1, &one) == has_room);
}

static void
run(struct input *input, struct ab_queue *queue, struct model *model)
{
    size_t most = next_byte(input) % 5 + 1U;
    struct ab_limits limits = {
        .max_batch_size = (int64_t)next_byte(input) + 1,
        .max_batch_cost = (int64_t)next_byte(input) * 16 + 1,
        .max_queue_size = (int64_t)next_byte(input) * 16 + 1,
        .max_queue_cost = (int64_t)next_byte(input) * 64 + 1,
        .concurrency = 1,
        .window_ns = next_byte(input) % 3,
    };
    struct ab_prefetch ahead = {0};
    while (input->left > 0) {
        unsigned what = next_byte(input);
        switch (what % 8) {
        case 0:
            pop(queue, model, next_byte(input));
            break;
        case 1:
            take(queue, model, model->next - next_byte(input) % 64U, what / 8);
            break;
        case 2:
            take(queue, model, 0, next_byte(input));
            break;
        case 3:
            is_failing = true;
            push(queue, model, input);
            is_failing = false;
            break;
        case 4:
            limits.max_batch_size = (int64_t)next_byte(input) + 1;
            ab_prefetch_reset(&ahead);
            break;
        default:
            push(queue, model, input);
        }
        check_queue(queue, model);
        if (what < 192) { // at times the line has more to catch up with
            ab_prefetch_update(&ahead, &limits, queue, most);
            check_prefetch(&ahead, &limits, model, most);
            check_policy(queue, &ahead, &limits, what % 16);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const struct ab_allocator failing = {allocate, resize, free};
    static struct model model;
    ab_allocator_set(&failing);
    model.length = 0;
    model.next = 0;
    struct ab_queue queue;
    ab_queue_init(&queue);
    run(&(struct input){bytes, size}, &queue, &model);
    ab_queue_fini(&queue); // what it keeps is a leak to the sanitizer
    return 0;
}
