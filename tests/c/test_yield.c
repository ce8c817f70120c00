/* Loops asked to let other threads run, while a sync batch wants to. */
#include "core/yield.h"
#include "world.h"

#define DELAY_NS (2 * MS)
#define IDLE_NS (MS / 5) // who answers sooner is idle
#define SOON_NS (MS / 100)
#define MAX_PAUSE_NS (64 * MS)

static bool
is_let_alone(void *mailbox)
{
    // Neither armed nor firing: that would be a count more.
    return atomic_load(&((struct ab_mailbox *)mailbox)->refs.value) == 1;
}

/* The time comes and the loop is asked. */
static bool
is_asked(struct ab_mailbox *mailbox, int64_t after_ns)
{
    advance_clock(after_ns);
    return CHECK(comes_true(has_mail, mailbox)) && ab_mailbox_take(mailbox);
}

/* The loop answers after a time, and is away for another.  How long it is
 * left in peace then. */
static int64_t
answer(struct ab_mailbox *mailbox, int64_t after_ns, int64_t away_ns)
{
    ab_clock_advance(after_ns + away_ns);
    ab_yield_answered(mailbox, away_ns);
    CHECK(mailbox->timer.slot != 0);
    return mailbox->timer.due_ns - ab_clock_now_ns();
}

static void
loops_are_asked_once_a_batch_has_lasted_a_while(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 2);
    ab_yield_begin();
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(world.loops[i]->timer.due_ns,
                    ab_clock_now_ns() + DELAY_NS);
        CHECK(!is_readable(world.loops[i]));
    }
    CHECK(is_asked(world.loops[0], DELAY_NS));
    CHECK(is_asked(world.loops[1], 0));
    CHECK(!ab_mailbox_take(world.loops[0])); // once
    CHECK(!is_readable(world.loops[0]));
    ab_yield_end();
    world_close(&world);
}

static void
batch_that_ended_asks_nobody(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    ab_yield_begin();
    ab_yield_end();
    advance_clock(DELAY_NS);
    CHECK(comes_true(is_let_alone, world.loops[0]));
    CHECK(!is_readable(world.loops[0]));
    CHECK(!ab_mailbox_take(world.loops[0]));
    world_close(&world);
}

static void
nothing_is_asked_again_when_no_batch_runs(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    ab_yield_answered(world.loops[0], MS);
    CHECK_EQUAL(world.loops[0]->timer.slot, 0);
    ab_yield_begin();
    CHECK(is_asked(world.loops[0], DELAY_NS));
    CHECK(comes_true(is_let_alone, world.loops[0]));
    ab_yield_end();
    ab_yield_answered(world.loops[0], MS);
    CHECK_EQUAL(world.loops[0]->timer.slot, 0);
    CHECK_EQUAL(world.loops[0]->synced_data.yield_pause_ns, 0);
    world_close(&world);
}

static void
asking_goes_on_until_the_last_batch_ends(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    ab_yield_begin();
    ab_clock_advance(MS);
    ab_yield_begin(); // beside the first: what was armed stays
    CHECK_EQUAL(world.loops[0]->timer.due_ns,
                ab_clock_now_ns() + DELAY_NS - MS);
    CHECK(is_asked(world.loops[0], DELAY_NS - MS));
    ab_yield_end();
    int64_t peace_ns = answer(world.loops[0], IDLE_NS, 5 * MS);
    CHECK(is_asked(world.loops[0], peace_ns));
    ab_yield_end();
    world_close(&world);
}

static void
loop_that_opens_during_a_batch_is_asked(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    ab_yield_begin();
    world.loops[0] = open_loop();
    CHECK(is_asked(world.loops[0], DELAY_NS));
    ab_yield_end();
    world_close(&world);
}

static void
loop_that_closed_is_not_asked(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    ab_yield_begin();
    struct ab_mailbox *mailbox = world.loops[0];
    ab_mailbox_acquire(mailbox);
    close_loop(&world, 0);
    CHECK_EQUAL(mailbox->timer.slot, 0);
    CHECK(is_let_alone(mailbox));
    ab_mailbox_acquire(mailbox);
    mailbox->timer.fire(&mailbox->timer); // it was just about to
    CHECK(!mailbox->synced_data.is_yield_wanted);
    ab_mailbox_release(mailbox);
    ab_yield_end();
    world_close(&world);
}

static void
loop_without_a_fd_is_asked_when_it_looks(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 0);
    CHECK(ab_mailbox_new(&world.loops[0], false) == AB_OK);
    ab_yield_begin();
    advance_clock(DELAY_NS);
    CHECK(comes_true(is_let_alone, world.loops[0]));
    CHECK(ab_mailbox_take(world.loops[0]));
    CHECK(!ab_mailbox_take(world.loops[0]));
    ab_yield_end();
    world_close(&world);
}

static void
idle_loop_is_asked_ever_more_rarely(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    struct ab_mailbox *mailbox = world.loops[0];
    ab_yield_begin();
    CHECK(is_asked(mailbox, DELAY_NS));
    for (int64_t pause_ns = MS; pause_ns <= MAX_PAUSE_NS; pause_ns *= 2) {
        CHECK_EQUAL(answer(mailbox, IDLE_NS - 1, SOON_NS), pause_ns);
        CHECK(is_asked(mailbox, pause_ns));
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(answer(mailbox, 0, SOON_NS), MAX_PAUSE_NS);
        CHECK(is_asked(mailbox, MAX_PAUSE_NS));
    }
    ab_yield_end();
    world_close(&world);
}

static void
busy_loop_is_asked_at_the_full_rate_again(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    struct ab_mailbox *mailbox = world.loops[0];
    ab_yield_begin();
    CHECK(is_asked(mailbox, DELAY_NS));
    for (int64_t pause_ns = MS; pause_ns <= 8 * MS; pause_ns *= 2) {
        CHECK_EQUAL(answer(mailbox, 0, SOON_NS), pause_ns);
        CHECK(is_asked(mailbox, pause_ns));
    }
    CHECK_EQUAL(answer(mailbox, IDLE_NS, SOON_NS), 20 * SOON_NS);
    CHECK(is_asked(mailbox, 20 * SOON_NS));
    CHECK_EQUAL(answer(mailbox, 0, SOON_NS), MS); // from the start
    ab_yield_end();
    world_close(&world);
}

static void
short_yield_costs_a_twentieth_and_a_long_one_half(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    struct ab_mailbox *mailbox = world.loops[0];
    ab_yield_begin();
    CHECK(is_asked(mailbox, DELAY_NS));
    const int64_t cases[][2] = {
        {1000, 20000}, {MS / 2, 10 * MS},  {MS - 1, 20 * MS - 20},
        {MS, MS},      {30 * MS, 30 * MS}, {3 * SECOND, 3 * SECOND}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQUAL(answer(mailbox, IDLE_NS, cases[i][0]), cases[i][1]);
        CHECK(is_asked(mailbox, cases[i][1]));
    }
    ab_yield_end();
    world_close(&world);
}

static void
longer_of_pause_and_share_counts(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    struct ab_mailbox *mailbox = world.loops[0];
    ab_yield_begin();
    CHECK(is_asked(mailbox, DELAY_NS));
    CHECK_EQUAL(answer(mailbox, 0, MS / 2), 10 * MS); // the pause is 1 ms
    CHECK(is_asked(mailbox, 10 * MS));
    CHECK_EQUAL(answer(mailbox, 0, 5 * MS), 5 * MS); // 2 ms
    CHECK(is_asked(mailbox, 5 * MS));
    CHECK_EQUAL(answer(mailbox, 0, 3 * MS), 4 * MS);
    ab_yield_end();
    world_close(&world);
}

static void
next_batch_leaves_the_loop_its_peace(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    struct ab_mailbox *mailbox = world.loops[0];
    ab_yield_begin();
    CHECK(is_asked(mailbox, DELAY_NS));
    CHECK_EQUAL(answer(mailbox, IDLE_NS, 30 * MS), 30 * MS);
    ab_yield_end();
    ab_yield_begin();
    CHECK_EQUAL(mailbox->timer.due_ns, ab_clock_now_ns() + 30 * MS);
    ab_yield_end();
    world_close(&world);
}

static void
busy_loop_that_is_asked_twice_is_not_taken_for_idle(void)
{
    struct world world;
    world_open(&world, AB_HOST_WORKER, 1);
    struct ab_mailbox *mailbox = world.loops[0];
    ab_yield_begin();
    advance_clock(DELAY_NS);
    CHECK(comes_true(has_mail, mailbox));
    CHECK(comes_true(is_let_alone, mailbox));
    ab_yield_end();
    ab_yield_begin(); // and the loop has not answered yet
    advance_clock(DELAY_NS);
    CHECK(comes_true(is_let_alone, mailbox));
    CHECK(ab_mailbox_take(mailbox));
    CHECK_EQUAL(answer(mailbox, 0, SOON_NS), 20 * SOON_NS);
    ab_yield_end();
    world_close(&world);
}

const struct test yield_tests[] = {
    TEST(loops_are_asked_once_a_batch_has_lasted_a_while),
    TEST(batch_that_ended_asks_nobody),
    TEST(nothing_is_asked_again_when_no_batch_runs),
    TEST(asking_goes_on_until_the_last_batch_ends),
    TEST(loop_that_opens_during_a_batch_is_asked),
    TEST(loop_that_closed_is_not_asked),
    TEST(loop_without_a_fd_is_asked_when_it_looks),
    TEST(idle_loop_is_asked_ever_more_rarely),
    TEST(busy_loop_is_asked_at_the_full_rate_again),
    TEST(short_yield_costs_a_twentieth_and_a_long_one_half),
    TEST(longer_of_pause_and_share_counts),
    TEST(next_batch_leaves_the_loop_its_peace),
    TEST(busy_loop_that_is_asked_twice_is_not_taken_for_idle),
    TESTS_END,
};
