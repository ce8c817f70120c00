/* Workers: threads of Python that wait detached, in the core, and attach to
 * run a batch of a sync process_batch.
 *
 * They are started without waiting for them: a thread that waited for a new
 * one to begin would stand in line for the interpreter behind a busy loop.
 * They end with their batcher, when it is stopped or dropped, and at exit
 * through a callback of threading, which runs before the interpreter goes.
 * That callback waits until running batches have ended, but not for those
 * whose callers have been told by a forced stop, and looks for signals
 * meanwhile: Ctrl-C ends it.
 */
#include "binding/batches.h"

#include "core/crew.h"
#include "core/leave.h"
#include "core/registry.h"
#include "core/sync.h"
#include "core/yield.h"

/* From here on a worker waits for the interpreter lock, where there is one. */
static void
begin_yield(void)
{
#ifndef Py_GIL_DISABLED
    ab_yield_begin();
#endif
}

static void
end_yield(void)
{
#ifndef Py_GIL_DISABLED
    ab_yield_end();
#endif
}

/* ---- the thread ---- */

static _Thread_local const struct ab_batcher *served; // NULL: nobody

typedef struct {
    struct ab_batcher *core;   /* owned: one count */
    struct ab_signals signals; // in force while the user's code runs
} Worker;

/* Detached: wait for work, and make ready for the user's code. */
static bool
wait_for_work(Worker *worker, bool is_new)
{
    if (!ab_worker_wait(worker->core, is_new)) {
        return false;
    }
    begin_yield(); // attaching is where starving begins
    ab_signals_restore_last(&worker->signals);
    return true;
}

static void
serve(Batcher *self)
{
    served = self->core;
    ab_dispatch_on_worker(self);
    served = NULL;
    if (PyErr_Occurred()) {
        ab_report_error((PyObject *)self);
    }
}

bool
ab_is_served_here(const Batcher *self)
{
    return served == self->core;
}

/* What the fd of a loop did not tell: a loop may watch none, or be closed. */
static void
deliver_last(struct ab_batcher *core)
{
    bool has_any = false;
    ab_mutex_lock(&core->mutex);
    for (struct ab_link *link = core->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        has_any |= link->synced_data.outbox != NULL;
    }
    ab_mutex_unlock(&core->mutex);
    Batcher *self = has_any ? ab_object_of(core) : NULL;
    if (self != NULL) {
        ab_deliver(self, NULL);
        Py_DECREF(self);
    }
}

static PyObject *
work(PyObject *capsule, PyObject *Py_UNUSED(unused))
{
    Worker *worker = PyCapsule_GetPointer(capsule, NULL);
    struct ab_batcher *core = worker->core;
    bool is_new = true, has_work;
    end_yield(); // since it was started
    for (;;) {
        Py_BEGIN_ALLOW_THREADS
            has_work = wait_for_work(worker, is_new);
            if (!has_work) {
                ab_workers_line_up();
            }
        Py_END_ALLOW_THREADS
        if (!has_work) {
            ab_workers_move_up();
            break;
        }
        is_new = false;
        Batcher *self = ab_object_of(core);
        if (self != NULL) {
            serve(self);
            Py_DECREF(self);
        }
        else {
            ab_worker_return_hint(core); // it may be brought back
        }
        struct ab_signals unblocked; // until the next batch
        ab_signals_block(&unblocked);
        end_yield();
    }
    deliver_last(core);
    // Attached until the thread state is gone: whoever waits for this count
    // attaches after that.
    ab_workers_count(-1);
    Py_RETURN_NONE;
}

static PyMethodDef work_method = {"_work", work, METH_NOARGS, NULL};

static void
free_worker(PyObject *capsule)
{
    Worker *worker = PyCapsule_GetPointer(capsule, NULL);
    ab_batcher_release(worker->core);
    PyMem_Free(worker);
}

/* The function of a new thread: a new reference. */
static PyObject *
new_worker(Batcher *self, Worker **out)
{
    Worker *worker = PyMem_Calloc(1, sizeof *worker);
    if (worker == NULL) {
        (void)PyErr_NoMemory();
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(worker, NULL, free_worker);
    if (capsule == NULL) {
        PyMem_Free(worker);
        return NULL;
    }
    worker->core = self->core;
    ab_batcher_acquire(self->core);
    PyObject *function = PyCFunction_New(&work_method, capsule);
    Py_DECREF(capsule);
    *out = worker;
    return function;
}

static PyObject *
start_with_signals_blocked(struct ab_state *state, PyObject *function,
                           PyObject *arguments, Worker *worker)
{
    // The new thread inherits the mask, and never unblocks a signal without
    // looking whether that would take it from the main thread.
    ab_signals_block(&worker->signals);
    struct ab_signals before = worker->signals;
    PyObject *thread = PyObject_CallFunctionObjArgs(state->start_new_thread,
                                                    function, arguments, NULL);
    ab_signals_restore(&before);
    return thread;
}

static int
start_thread(Batcher *self)
{
    struct ab_state *state = self->state;
    // Workers of two batchers may be started at once: one of them asks.
    if (!atomic_exchange(&state->ends_workers, true)) {
        PyObject *answer =
            PyObject_CallOneArg(state->_register_atexit, state->end_workers);
        if (answer == NULL) {
            atomic_store(&state->ends_workers, false);
            return -1;
        }
        Py_DECREF(answer);
    }
    Worker *worker = NULL;
    PyObject *function = new_worker(self, &worker);
    if (function == NULL) {
        return -1;
    }
    PyObject *nothing = PyTuple_New(0);
    PyObject *thread = NULL;
    if (nothing != NULL) {
        ab_workers_count(1);
        begin_yield(); // a thread attaches before it runs anything
        thread = start_with_signals_blocked(state, function, nothing, worker);
        if (thread == NULL) {
            ab_workers_count(-1);
            end_yield();
        }
        Py_DECREF(nothing);
    }
    Py_DECREF(function);
    Py_XDECREF(thread);
    return thread == NULL ? -1 : 0;
}

void
ab_start_worker(Batcher *self)
{
    if (start_thread(self) == 0) {
        return;
    }
    PyObject *error = PyErr_GetRaisedException();
    ab_worker_failed_to_start(self->core);
    ab_mutex_lock(&self->core->mutex);
    // A loop that is open serves its own callers, be it later; others may wait
    // on its very thread, or after it has stopped.
    bool is_stranded = self->core->synced_data.workers == 0;
    bool has_home = self->core->synced_data.host == AB_HOST_EXECUTOR &&
                    self->core->synced_data.home != NULL;
    struct ab_link *link =
        has_home ? ab_link_of_locked(self->core, NULL) : NULL;
    ab_mutex_unlock(&self->core->mutex);
    if (is_stranded && (!has_home || link != NULL) &&
        ab_refuse(self, link, AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG, error) <
            0) {
        ab_report_error((PyObject *)self);
    }
    Py_DECREF(error);
    ab_deliver(self, NULL); // it may have been the last that a stop waits for
}

/* ---- a forced stop ---- */

void
ab_abandon_workers(Batcher *self)
{
    int abandoned = 0;
    ab_mutex_lock(&self->core->mutex);
    if (self->core->synced_data.host == AB_HOST_WORKER) {
        for (struct ab_batch *batch = self->core->synced_data.batches.first;
             batch != NULL; batch = batch->next) {
            // Only the user's code is abandoned: forming and settling end
            // soon, and nobody would count their worker in again.
            if (batch->is_running && !batch->is_abandoned &&
                atomic_load_explicit(&batch->thread, memory_order_relaxed) !=
                    0) {
                batch->is_abandoned = true;
                abandoned++;
            }
        }
    }
    ab_mutex_unlock(&self->core->mutex);
    ab_workers_count(-abandoned);
}

void
ab_reclaim_worker(struct ab_batch *batch)
{
    ab_mutex_lock(&batch->batcher->mutex);
    bool was_abandoned = batch->is_abandoned;
    batch->is_abandoned = false;
    // Inside the mutex: from here on it cannot be abandoned.
    atomic_store_explicit(&batch->thread, 0, memory_order_relaxed);
    ab_mutex_unlock(&batch->batcher->mutex);
    if (was_abandoned) {
        ab_workers_count(1);
    }
}

/* ---- the end ---- */

#define AB_SIGNALS_NS 100000000 // so often the end looks for Ctrl-C

static void
reject_waiting(struct ab_batcher *core)
{
    Batcher *self = ab_object_of(core);
    if (self == NULL) {
        return;
    }
    ab_mutex_lock(&core->mutex);
    // An executor of concurrent.futures takes nothing from here on, either.
    bool is_hosted = core->synced_data.host != AB_HOST_LOOP;
    ab_mutex_unlock(&core->mutex);
    PyObject *error = ab_exception_of(self, AB_QUITTING);
    if (error == NULL ||
        (is_hosted &&
         ab_refuse(self, NULL, AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG, error) <
             0)) {
        ab_report_error((PyObject *)self);
    }
    Py_XDECREF(error);
    Py_DECREF(self);
}

PyObject *
ab_end_workers(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    ab_workers_quit();
    struct ab_batcher *core = NULL;
    while ((core = ab_registry_next(core)) != NULL) {
        reject_waiting(core);
    }
    bool are_gone = false;
    while (!are_gone) {
        Py_BEGIN_ALLOW_THREADS
            are_gone = ab_workers_wait_for_none(AB_SIGNALS_NS);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0) {
            return NULL; // Ctrl-C: whoever ends the program does not wait
        }
    }
    Py_RETURN_NONE;
}
