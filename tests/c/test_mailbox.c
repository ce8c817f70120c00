/* Letters and the fd that announces them. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "core/mailbox.h"

#include "world.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

struct post {
    struct ab_mailbox *mailbox;
    struct ab_batcher *batchers[4]; // one link each
    struct ab_link *links[4];
};

static void
post_open(struct post *post, bool wants_fd)
{
    *post = (struct post){0};
    CHECK(ab_mailbox_new(&post->mailbox, wants_fd) == AB_OK);
    atomic_store(&post->mailbox->loop, post);
    for (int i = 0; i < 4; i++) {
        CHECK(ab_batcher_new(&post->batchers[i], post) == AB_OK);
        CHECK(ab_batcher_link(post->batchers[i], post->mailbox) == AB_OK);
        post->links[i] = ab_link_of_locked(post->batchers[i], post);
    }
}

static void
post_close(struct post *post)
{
    if (!post->mailbox->synced_data.is_closed) {
        ab_mailbox_close(post->mailbox);
    }
    ab_mailbox_release(post->mailbox);
    for (int i = 0; i < 4; i++) {
        CHECK_EQUAL(post->batchers[i]->refs.value, 1);
        ab_batcher_orphan(post->batchers[i]);
    }
}

static enum ab_posted
put_in(struct post *post, int link)
{
    return ab_mailbox_post(post->mailbox, post->links[link], true);
}

static bool
next_is(struct post *post, int link)
{
    struct ab_link *letter = ab_mailbox_next(post->mailbox);
    if (letter != NULL) {
        ab_batcher_release(letter->batcher);
    }
    return letter == (link < 0 ? NULL : post->links[link]);
}

static void
drain_fd(struct post *post)
{
    uint64_t value;
    ssize_t size =
        read(post->mailbox->synced_data.wakefd.read_fd, &value, sizeof value);
    CHECK(size == sizeof value);
}

static void
fd_is_written_for_the_first_letter_alone(void)
{
    struct post post;
    post_open(&post, true);
    CHECK(!is_readable(post.mailbox));
    CHECK(put_in(&post, 0) == AB_POSTED);
    CHECK(is_readable(post.mailbox));
    drain_fd(&post);
    CHECK(put_in(&post, 1) == AB_POSTED);
    CHECK(!is_readable(post.mailbox)); // nothing was written a second time
    post.mailbox->synced_data.wakefd.is_full =
        false; // the test has emptied it
    (void)ab_mailbox_take(post.mailbox);
    CHECK(next_is(&post, 0));
    CHECK(next_is(&post, 1));
    CHECK(next_is(&post, -1));
    CHECK(put_in(&post, 2) == AB_POSTED);
    CHECK(is_readable(post.mailbox));
    post_close(&post);
}

static void
loop_that_could_not_be_called_is_called_for_the_next_letter(void)
{
    struct post post;
    post_open(&post, false);
    CHECK(put_in(&post, 0) == AB_POSTED_WAKE);
    CHECK(put_in(&post, 1) == AB_POSTED);
    ab_mailbox_sleeps_on(post.mailbox);
    CHECK(put_in(&post, 1) == AB_POSTED_WAKE); // it lies there already
    CHECK(put_in(&post, 1) == AB_POSTED);
    ab_mailbox_sleeps_on(post.mailbox);
    CHECK(put_in(&post, 2) == AB_POSTED_WAKE);
    post_close(&post);
}

static void
take_empties_the_fd_and_gives_all_letters_in_order(void)
{
    struct post post;
    post_open(&post, true);
    for (int i = 0; i < 4; i++) {
        CHECK(put_in(&post, i) == AB_POSTED);
    }
    CHECK(!ab_mailbox_has_next(post.mailbox));
    CHECK(!ab_mailbox_take(post.mailbox));
    CHECK(!is_readable(post.mailbox));
    for (int i = 0; i < 4; i++) {
        CHECK(ab_mailbox_has_next(post.mailbox));
        CHECK(next_is(&post, i));
    }
    CHECK(!ab_mailbox_has_next(post.mailbox));
    CHECK(next_is(&post, -1));
    post_close(&post);
}

static void
letter_posted_while_others_are_read_wakes_again(void)
{
    struct post post;
    post_open(&post, true);
    CHECK(put_in(&post, 0) == AB_POSTED);
    CHECK(put_in(&post, 1) == AB_POSTED);
    (void)ab_mailbox_take(post.mailbox);
    CHECK(put_in(&post, 2) == AB_POSTED); // the read letters wait still
    CHECK(is_readable(post.mailbox));
    CHECK(next_is(&post, 0));
    (void)ab_mailbox_take(post.mailbox);
    CHECK(next_is(&post, 1));
    CHECK(next_is(&post, 2));
    CHECK(next_is(&post, -1));
    post_close(&post);
}

static void
link_is_posted_once_until_it_is_read(void)
{
    struct post post;
    post_open(&post, true);
    for (int i = 0; i < 3; i++) {
        CHECK(put_in(&post, 0) == AB_POSTED);
    }
    CHECK_EQUAL(post.batchers[0]->refs.value, 2); // one letter, one count
    (void)ab_mailbox_take(post.mailbox);
    CHECK(put_in(&post, 0) == AB_POSTED); // taken, but not read
    CHECK(!is_readable(post.mailbox));
    CHECK(next_is(&post, 0));
    CHECK(next_is(&post, -1));
    CHECK(put_in(&post, 0) == AB_POSTED);
    CHECK(is_readable(post.mailbox));
    post_close(&post);
}

static void
who_cannot_use_the_fd_is_asked_to_wake_once(void)
{
    struct post post;
    post_open(&post, true);
    CHECK(ab_mailbox_post(post.mailbox, post.links[0], false) ==
          AB_POSTED_WAKE);
    CHECK(ab_mailbox_post(post.mailbox, post.links[1], false) == AB_POSTED);
    CHECK(!is_readable(post.mailbox));
    ab_mailbox_write_fd(post.mailbox); // its own way failed
    ab_mailbox_write_fd(post.mailbox);
    CHECK(is_readable(post.mailbox));
    (void)ab_mailbox_take(post.mailbox);
    CHECK(!is_readable(post.mailbox));
    post_close(&post);
}

static void
mailbox_without_fd_leaves_waking_to_the_caller(void)
{
    struct post post;
    post_open(&post, false);
    CHECK(!post.mailbox->has_fd);
    CHECK(put_in(&post, 0) == AB_POSTED_WAKE);
    CHECK(put_in(&post, 1) == AB_POSTED);
    ab_mailbox_write_fd(post.mailbox);
    CHECK(!ab_mailbox_take(post.mailbox));
    CHECK(next_is(&post, 0));
    CHECK(put_in(&post, 0) == AB_POSTED_WAKE);
    post_close(&post);
}

static void
closed_mailbox_refuses_and_gives_its_letters_back(void)
{
    struct post post;
    post_open(&post, true);
    CHECK(put_in(&post, 0) == AB_POSTED);
    CHECK(put_in(&post, 1) == AB_POSTED);
    (void)ab_mailbox_take(post.mailbox);
    CHECK(put_in(&post, 2) == AB_POSTED);
    int fd = post.mailbox->synced_data.wakefd.read_fd;
    ab_mailbox_close(post.mailbox);
    CHECK(put_in(&post, 3) == AB_POST_CLOSED);
    ab_mailbox_write_fd(post.mailbox); // no fd any more: harmless
    CHECK_EQUAL(close(fd), -1);        // it was closed
    CHECK(ab_mailbox_find(&post) == NULL);
    for (int i = 0; i < 4; i++) {
        CHECK(!post.links[i]->mailbox_data.is_posted);
    }
    post_close(&post);
}

static void
mailbox_is_found_by_its_loop(void)
{
    struct ab_mailbox *one = open_loop(), *two = open_loop();
    struct ab_mailbox *found = ab_mailbox_find(one);
    CHECK(found == one);
    CHECK(ab_mailbox_find(&found) == NULL);
    ab_mailbox_release(found);
    ab_mailbox_close(one);
    CHECK(ab_mailbox_find(one) == NULL);
    ab_mailbox_release(one);
    ab_mailbox_close(two);
    ab_mailbox_release(two);
}

static void
kept_links_are_popped_once_each(void)
{
    struct post post;
    post_open(&post, true);
    for (int i = 0; i < 4; i++) {
        ab_mailbox_keep(post.mailbox, post.links[i]);
    }
    ab_mailbox_unkeep(post.mailbox, post.links[3]); // the head
    ab_mailbox_unkeep(post.mailbox, post.links[1]); // in the middle
    ab_mailbox_close(post.mailbox);
    bool seen[4] = {false};
    struct ab_link *link;
    while ((link = ab_mailbox_pop_kept(post.mailbox)) != NULL) {
        for (int i = 0; i < 4; i++) {
            CHECK(!(seen[i] && link == post.links[i]));
            seen[i] = seen[i] || link == post.links[i];
        }
        CHECK_EQUAL(link->batcher->refs.value, 2);
        ab_batcher_release(link->batcher);
        ab_mailbox_unkeep(post.mailbox, link); // late: nothing happens
    }
    CHECK(seen[0] && !seen[1] && seen[2] && !seen[3]);
    post_close(&post);
}

static void
stranger_who_empties_the_fd_cannot_hang_the_loop(void)
{
    struct post post;
    post_open(&post, true);
    CHECK(put_in(&post, 0) == AB_POSTED);
    drain_fd(&post); // a forked child of the loop's process, for one
    (void)ab_mailbox_take(post.mailbox);
    CHECK(next_is(&post, 0));
    CHECK(put_in(&post, 1) == AB_POSTED);
    close(post.mailbox->synced_data.wakefd.write_fd); // os.closerange()
    (void)ab_mailbox_take(post.mailbox);
    CHECK(put_in(&post, 2) == AB_POSTED);
    post_close(&post);
}

struct poster {
    struct post *post;
    atomic_int *step;
};

static void *
post_all(void *context)
{
    struct poster *poster = context;
    atomic_fetch_add(poster->step, 1);
    while (atomic_load(poster->step) < 2) {
        sched_yield();
    }
    for (int i = 0; i < 4; i++) {
        (void)put_in(poster->post, i);
    }
    return NULL;
}

static void
close_finds_the_letter_that_comes_in_between(void)
{
    for (int round = 0; round < 300 && !check_failed(); round++) {
        struct post post;
        atomic_int step = 0;
        struct poster poster = {&post, &step};
        pthread_t thread;
        post_open(&post, true);
        REQUIRE(pthread_create(&thread, NULL, post_all, &poster) == 0);
        while (atomic_load(&step) < 1) {
            sched_yield();
        }
        atomic_fetch_add(&step, 1);
        ab_mailbox_close(post.mailbox);
        pthread_join(thread, NULL);
        post_close(&post); // every letter gave its count back
    }
}

static void
child_of_a_fork_leaves_the_loop_of_the_parent_alone(void)
{
    struct post post;
    post_open(&post, true);
    CHECK(put_in(&post, 0) == AB_POSTED);
    (void)ab_mailbox_take(post.mailbox);
    CHECK(put_in(&post, 1) == AB_POSTED);
    (void)ab_mailbox_take(post.mailbox);
    int fd = post.mailbox->synced_data.wakefd.write_fd;
    pid_t child = fork();
    if (child == 0) {
        CHECK(put_in(&post, 2) == AB_POST_CLOSED);
        ab_mailbox_write_fd(post.mailbox);
        uint64_t one = 1;
        CHECK(write(fd, &one, sizeof one) < 0); // closed in the child
        CHECK(!ab_mailbox_has_next(post.mailbox));
        CHECK(ab_mailbox_pop_kept(post.mailbox) == NULL);
        CHECK(ab_mailbox_find(&post) == NULL);
        ab_mailbox_close(post.mailbox); // the reader goes with its loop
        _exit(check_failed());
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    CHECK(!is_readable(post.mailbox));
    CHECK(next_is(&post, 0)); // and the parent goes on as if nothing was
    CHECK(put_in(&post, 3) == AB_POSTED);
    CHECK(is_readable(post.mailbox));
    post_close(&post);
}

const struct test mailbox_tests[] = {
    TEST(fd_is_written_for_the_first_letter_alone),
    TEST(loop_that_could_not_be_called_is_called_for_the_next_letter),
    TEST(take_empties_the_fd_and_gives_all_letters_in_order),
    TEST(letter_posted_while_others_are_read_wakes_again),
    TEST(link_is_posted_once_until_it_is_read),
    TEST(who_cannot_use_the_fd_is_asked_to_wake_once),
    TEST(mailbox_without_fd_leaves_waking_to_the_caller),
    TEST(closed_mailbox_refuses_and_gives_its_letters_back),
    TEST(mailbox_is_found_by_its_loop),
    TEST(kept_links_are_popped_once_each),
    TEST(stranger_who_empties_the_fd_cannot_hang_the_loop),
    TEST(close_finds_the_letter_that_comes_in_between),
    TEST(child_of_a_fork_leaves_the_loop_of_the_parent_alone),
    TESTS_END,
};
