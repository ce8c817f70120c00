#include "core/leave.h"
#include "world.h"

static void
settle_and_let_go(struct world *world, struct ab_batch *batch, bool is_failed)
{
    struct ab_todo todo = {0};
    if (batch != NULL) {
        ab_batch_settle(batch, is_failed, NULL, &todo);
        carry_out(world, &todo);
        ab_batch_let_go(batch);
    }
}

void
refuse(struct world *world, struct ab_link *link, unsigned what)
{
    struct ab_batch *batch;
    CHECK(ab_batch_collect(world->batcher, link, what, &batch) == AB_OK);
    settle_and_let_go(world, batch, true);
}

/* Where only a loop can host and none is left, those without one go too. */
static void
refuse_loopless(struct world *world)
{
    ab_mutex_lock(&world->batcher->mutex);
    bool is_stranded = world->batcher->synced_data.host == AB_HOST_LOOP &&
                       world->batcher->synced_data.home == NULL;
    struct ab_link *link = ab_link_of_locked(world->batcher, NULL);
    ab_mutex_unlock(&world->batcher->mutex);
    if (is_stranded && link != NULL) {
        refuse(world, link, AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG);
    }
}

static void
leave_loop(struct world *world, struct ab_link *link)
{
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    CHECK(ab_batch_collect(world->batcher, link,
                           AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG,
                           &batch) == AB_OK);
    settle_and_let_go(world, batch, false);
    while ((batch = ab_batcher_hosted_by(world->batcher, link)) != NULL) {
        settle_and_let_go(world, batch, true);
    }
    ab_batcher_lost_loop(world->batcher, link, &todo);
    carry_out(world, &todo);
    refuse_loopless(world);
    tell_strangers(world);
}

void
close_loop(struct world *world, int loop)
{
    struct ab_mailbox *mailbox = world->loops[loop];
    world->loops[loop] = NULL;
    ab_mailbox_close(mailbox);
    struct ab_link *link;
    while ((link = ab_mailbox_pop_kept(mailbox)) != NULL) {
        struct ab_batcher *batcher = link->batcher;
        CHECK(batcher == world->batcher);
        leave_loop(world, link);
        ab_batcher_release(batcher);
    }
    link = ab_batcher_pop_home(world->batcher, mailbox);
    if (link != NULL) {
        leave_loop(world, link);
    }
    ab_mailbox_release(mailbox);
}

void
world_close(struct world *world)
{
    if (check_failed()) {
        return; // the rest would only repeat it
    }
    CHECK_EQUAL(world->batcher->synced_data.outstanding, 0);
    CHECK_EQUAL(world->batcher->synced_data.running, 0);
    CHECK_EQUAL(world->batcher->synced_data.pending_links, 0);
    CHECK(world->batcher->synced_data.batches.first == NULL);
    CHECK_EQUAL(world->refs, 0);
    ab_batcher_orphan(world->batcher);
    for (int i = 0; i < WORLD_LOOPS; i++) {
        if (world->loops[i] != NULL) {
            ab_mailbox_close(world->loops[i]);
            ab_mailbox_release(world->loops[i]);
        }
    }
    ab_clock_thaw();
    ab_aggregator_wake();
}
