/* The fd by which a loop is woken cannot be written: it is tried again. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "world.h"

#include <fcntl.h>
#include <unistd.h>

/* From now on the fd can be read, and not written; what it was. */
static int
refuse_writes(struct ab_mailbox *mailbox)
{
    int write_fd = mailbox->synced_data.wakefd.write_fd;
    mailbox->synced_data.wakefd.write_fd = open("/dev/null", O_RDONLY);
    CHECK(mailbox->synced_data.wakefd.write_fd >= 0);
    return write_fd;
}

static void
allow_writes(struct ab_mailbox *mailbox, int write_fd)
{
    ab_mutex_lock(&mailbox->mutex); // the aggregation thread may be at it
    close(mailbox->synced_data.wakefd.write_fd);
    mailbox->synced_data.wakefd.write_fd = write_fd;
    ab_mutex_unlock(&mailbox->mutex);
}

static bool
is_unheard(void *context)
{
    struct ab_mailbox *mailbox = context;
    ab_mutex_lock(&mailbox->mutex);
    bool answer = mailbox->synced_data.is_unheard;
    ab_mutex_unlock(&mailbox->mutex);
    return answer; // and the timer is armed: inside the same mutex
}

/* A world with a letter that could not be announced, and now could be. */
static void
open_unheard(struct world *world)
{
    world_open(world, AB_HOST_LOOP, 1);
    limits_of(world)->window_ns = 10 * MS;
    CHECK(push_items(world, 0, 1, 2, 1) == AB_OK);
    int write_fd = refuse_writes(world->loops[0]);
    advance_clock(10 * MS);
    CHECK(comes_true(is_unheard, world->loops[0]));
    allow_writes(world->loops[0], write_fd);
}

static void
letter_whose_announcement_fails_is_announced_soon(void)
{
    struct world world;
    open_unheard(&world);
    advance_clock(MS);
    CHECK(comes_true(has_mail, world.loops[0]));
    CHECK_EQUAL(read_mail(&world, 0), 1);
    serve_all(&world, 0);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

static void
loop_that_closes_is_not_written_again(void)
{
    struct world world;
    open_unheard(&world);
    struct ab_mailbox *mailbox = world.loops[0];
    ab_mailbox_acquire(mailbox);
    close_loop(&world, 0);
    CHECK_EQUAL(mailbox->timer.slot, 0);
    advance_clock(MS);
    ab_mailbox_release(mailbox);
    CHECK_EQUAL(world.told_count, 2);
    world_close(&world);
}

const struct test wakefd_tests[] = {
    TEST(letter_whose_announcement_fails_is_announced_soon),
    TEST(loop_that_closes_is_not_written_again),
    TESTS_END,
};
