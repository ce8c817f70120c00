/* What the binding's files share: the module's state, the Python objects of
 * the core's structures, and the functions that cross files.
 *
 * Every function that returns int gives -1 with an exception set, or 0 (or
 * what its comment says); one that returns void and may run Python reports
 * what goes wrong there as unraisable.
 */
#ifndef AB_BINDING_STATE_H
#define AB_BINDING_STATE_H

#include <Python.h>

#include "binding/compat.h"
#include "core/batch.h"
#include "core/outbox.h"

/* Interned names of methods and keywords. */
#define AB_NAMES(X)                                                           \
    X(_log_destroy_pending)                                                   \
    X(__asyncio_running_event_loop__)                                         \
    X(_look)                                                                  \
    X(_on_done)                                                               \
    X(_sweep)                                                                 \
    X(add_done_callback)                                                      \
    X(add_reader)                                                             \
    X(batch)                                                                  \
    X(call_later)                                                             \
    X(call_soon)                                                              \
    X(call_soon_threadsafe)                                                   \
    X(cancelled)                                                              \
    X(close)                                                                  \
    X(context)                                                                \
    X(create_task)                                                            \
    X(done)                                                                   \
    X(estimated_cost)                                                         \
    X(exception)                                                              \
    X(is_running)                                                             \
    X(item)                                                                   \
    X(loop)                                                                   \
    X(process_batch)                                                          \
    X(result)                                                                 \
    X(return_exceptions)                                                      \
    X(set_exception)                                                          \
    X(set_result)                                                             \
    X(set_running_or_notify_cancel)                                           \
    X(submit)                                                                 \
    X(throw)                                                                  \
    X(value)

/* Objects looked up in other modules. */
#define AB_IMPORTS(X)                                                         \
    X("_asyncio", Future)                                                     \
    X("asyncio", get_running_loop)                                            \
    X("asyncio", _get_running_loop)                                           \
    X("asyncio", current_task)                                                \
    X("asyncio", CancelledError)                                              \
    X("_thread", start_new_thread)                                            \
    X("threading", _register_atexit)                                          \
    X("async_batcher.exceptions", QueueFullException)                         \
    X("async_batcher.exceptions", BatcherStoppedError)                        \
    X("async_batcher.exceptions", BatchResultError)                           \
    X("async_batcher.exceptions", BatchCancelledError)                        \
    X("async_batcher._hooks", inspect_process_batch)                          \
    X("async_batcher._hooks", own_exception)                                  \
    X("async_batcher._hooks", as_rows)                                        \
    X("async_batcher._hooks", executor_error)                                 \
    X("async_batcher._hooks", is_logged)                                      \
    X("async_batcher._hooks", log_batch)                                      \
    X("async_batcher._hooks", note_failure)                                   \
    X("async_batcher._waiting", Space)

struct ab_state {
#define AB_FIELD(name) PyObject *str_##name; /* owned */
    AB_NAMES(AB_FIELD)
#undef AB_FIELD
#define AB_FIELD(module, name) PyObject *name; /* owned */
    AB_IMPORTS(AB_FIELD)
#undef AB_FIELD
    PyObject *concurrent_future; /* owned; concurrent.futures.Future */
    PyObject *future_done;       /* owned; methods of asyncio.Future */
    PyObject *future_set_result;
    PyObject *future_set_exception;
    PyObject *empty_context; /* owned; for callbacks that are nobody's */
    PyObject *kw_context;    /* owned; ("context",) */
    PyObject *kw_batch;      /* owned; ("batch",) */
    PyObject *kw_loop;       /* owned; ("loop",) */
    PyTypeObject *batcher_type, *reader_type, *run_type, *group_type;
    PyObject *end_workers;    /* owned; the module's _end_workers */
    atomic_bool ends_workers; // threading was asked to call us at exit
};

typedef struct {
    PyObject_HEAD struct ab_state
        *state;              /* borrowed; the type keeps the module alive */
    struct ab_batcher *core; /* owned: one count */
    PyObject *executor;      /* owned or NULL */
    PyObject *cost;          /* owned or NULL: the user's estimator */
    PyObject *cost_name;     /* owned or NULL: that estimator's parameter */
    PyObject *estimates;     /* owned; tuple: the methods of items to ask */
    int64_t default_cost;    // of an item that has none of those
    PyObject *context; /* owned: where every batch's context comes from */
    bool is_initialized;
    atomic_bool is_inspected; // process_batch was looked at: ab_inspect
    bool is_keyword;          // it takes its list as `batch=`
    atomic_bool has_cost;     // items are asked for their cost
    PyObject *limits; /* owned or NULL; under the core's mutex: as they were
                         given, a dict that is replaced and never changed */
    int64_t
        sweep_paid_ns;   // under the core's mutex: refusals look from then on
    atomic_size_t steps; // of its batches' tasks, in progress in any thread
} Batcher;

#define Batcher_CAST(op) ((Batcher *)(op))

extern PyModuleDef ab_module;
extern PyType_Spec ab_batcher_spec, ab_reader_spec, ab_run_spec, ab_group_spec;

/* ---- methods of Batcher: control.c, statistics.c ---- */

PyObject *Batcher_get_limits(PyObject *op, void *closure);
PyObject *Batcher_set_limits(PyObject *op, PyObject *args);
PyObject *Batcher_begin(PyObject *op, PyObject *unused);
PyObject *Batcher_reopen(PyObject *op, PyObject *unused);
PyObject *Batcher_check(PyObject *op, PyObject *unused);
PyObject *Batcher_flush(PyObject *op, PyObject *unused);
PyObject *Batcher_look(PyObject *op, PyObject *unused);
PyObject *Batcher_drain(PyObject *op, PyObject *unused);
PyObject *Batcher_abort(PyObject *op, PyObject *unused);
PyObject *Batcher_is_inside(PyObject *op, PyObject *unused);
PyObject *Batcher_is_worker(PyObject *op, PyObject *unused);
PyObject *Batcher_has_untold(PyObject *op, PyObject *unused);
PyObject *Batcher_snapshot(PyObject *op, PyObject *unused);

/* ---- batcher.c ---- */

/* The batcher's object, a new reference; NULL without an exception if it is
 * gone. */
Batcher *ab_object_of(struct ab_batcher *core);

/* ---- todo.c ---- */

/* Do what a call of the core left to do.  `loop`: the running one, or NULL. */
void ab_finish_todo(Batcher *self, PyObject *loop, struct ab_todo *todo);

/* ---- status.c ---- */

/* The exception that is set reaches nobody: it is reported, but for a
 * KeyboardInterrupt or a SystemExit, which the main thread raises again. */
void ab_report_error(PyObject *where);
void ab_drop_error(void); // the same, without a report

/* The one place where a status becomes an exception: a new reference. */
PyObject *ab_exception_of(Batcher *self, enum ab_status status);

/* ---- loop.c ---- */

/* The running loop, a new reference; where there is none, RuntimeError. */
PyObject *ab_callers_loop(Batcher *self);

/* The running loop, a new reference; NULL without an exception: none. */
PyObject *ab_running_loop(struct ab_state *state);

/* Have the batcher know `loop` (NULL: callers without one). */
int ab_enter_loop(Batcher *self, PyObject *loop);

/* Wake the loop of `mailbox` from any attached thread. */
void ab_wake_loop(struct ab_state *state, struct ab_mailbox *mailbox);

/* Does the loop of the batcher's home run?  1 or 0. */
int ab_home_runs(Batcher *self);

/* The link of the running `loop`, or NULL: it was never seen. */
struct ab_link *ab_link_of(Batcher *self, PyObject *loop);

/* Have the running `loop` look after its mail in its next iteration. */
void ab_post_own(Batcher *self, PyObject *loop);

/* Stay detached long enough for a waiting thread to take the interpreter
 * lock; one that only lets go for an instant gets it back itself. */
void ab_stay_detached(void);

/* The same between two pieces, for whoever is attached without a loop. */
void ab_let_others_run(PyObject *loop);

/* ---- intake.c ---- */

PyObject *Batcher_process(PyObject *op, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *names);
PyObject *Batcher_process_many(PyObject *op, PyObject *const *args,
                               Py_ssize_t nargs, PyObject *names);
PyObject *Batcher_process_threadsafe(PyObject *op, PyObject *const *args,
                                     Py_ssize_t nargs, PyObject *names);
PyObject *Batcher_submit(PyObject *op, PyObject *const *args,
                         Py_ssize_t nargs);
PyObject *Batcher_cost_of(PyObject *op, PyObject *args);
PyObject *Batcher_withdraw(PyObject *op, PyObject *number);
PyObject *Batcher_watch(PyObject *op, PyObject *stops);

/* Is __init__ done?  And is it known how process_batch wants to be called? */
int ab_check(Batcher *self);
int ab_inspect(Batcher *self);

/* ---- cost.c ---- */

/* What `item` costs: `given`, unless that is None.  0, or -1: the
 * estimator failed, or gave nonsense. */
int ab_cost_of(Batcher *self, PyObject *item, PyObject *given, int64_t *out);

/* ---- shared by intake.c, many.c and space.c ---- */

/* Push, after making the loop known, and after dropping cancelled entries
 * where the queue looks full (ab_sweep_for_room).  AB_NO_LINK: an exception is
 * set. */
enum ab_status ab_push(Batcher *self, PyObject *loop, struct ab_entry *entries,
                       size_t count);
/* The exception of a push that failed: a new reference. */
PyObject *ab_push_error(Batcher *self, enum ab_status status);

/* Would awaiting an item wait for the very batch that asks?  1, 0 or -1. */
int ab_waits_for_itself(Batcher *self, PyObject *loop);
void ab_set_self_wait_error(void);

/* `future`, failed with the exception that is set. */
PyObject *ab_fail_future(Batcher *self, PyObject *future);

/* ---- waiter.c ---- */

/* A new asyncio.Future of the running `loop`. */
PyObject *ab_future_new(struct ab_state *state, PyObject *loop);

/* The truth of a call's answer, whose reference is stolen; -1 of NULL. */
int ab_is_true_and_drop(PyObject *answer);

/* Has the waiter stopped waiting?  1 or 0; 0 where asking failed. */
int ab_waiter_is_done(struct ab_state *state, PyObject *waiter);

/* The waiter's item goes into a batch: 0 if it does not wait any more, 1
 * where asking failed. */
int ab_waiter_begin(struct ab_state *state, PyObject *waiter);

/* Nobody will tell it: its item was dropped because it had stopped waiting.  A
 * cancelled future of concurrent.futures wakes those who wait for it only
 * when it is told that its cancellation was noticed. */
void ab_waiter_drop(struct ab_state *state, PyObject *waiter);

/* What a value is to a waiter. */
enum ab_answer {
    AB_ANSWER_RESULT,
    AB_ANSWER_ERROR,  // an exception to raise
    AB_ANSWER_SHARED, // the error of many: each is told one of its own
};

void ab_waiter_tell(struct ab_state *state, PyObject *waiter, uint32_t index,
                    PyObject *value, enum ab_answer answer);

/* A new group of `size` items, whose future is of the running loop. */
PyObject *ab_group_new(struct ab_state *state, PyObject *loop, size_t size,
                       bool returns);
PyObject *ab_group_future(PyObject *group); /* borrowed */

/* The future behind a waiter: borrowed. */
PyObject *ab_waiter_future(struct ab_state *state, PyObject *waiter);

/* ---- sweep.c ---- */

/* Drop queued entries whose waiters are done; `only_head`: up to the first
 * that waits. */
void ab_sweep(Batcher *self, PyObject *loop, bool only_head);

/* The same before a caller is refused, unless refusals looked so much lately
 * that the queue is left alone. */
void ab_sweep_for_room(Batcher *self, PyObject *loop);

/* While callers wait for space: have the running loop's queued waiters (and
 * those of none) tell when they are cancelled. */
void ab_watch_queued(Batcher *self, PyObject *loop);
PyObject *Batcher_sweep(PyObject *op, PyObject *unused);
PyObject *Batcher_on_done(PyObject *op, PyObject *future);

#endif
