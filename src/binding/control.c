/* Stopping, flushing, looking, and the limits of a running batcher. */
#include "binding/batches.h"

#include "core/decide.h"
#include "core/intake.h"
#include "core/leave.h"

typedef void (*ab_core_call)(struct ab_batcher *, struct ab_mailbox *,
                             struct ab_todo *);

static PyObject *
call_core(PyObject *op, ab_core_call call)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *loop = ab_running_loop(self->state);
    struct ab_mailbox *own = loop != NULL ? ab_mailbox_find(loop) : NULL;
    struct ab_todo todo = {0};
    ab_sweep(self, loop, false);
    call(self->core, own, &todo);
    ab_finish_todo(self, loop, &todo);
    ab_deliver(self, NULL);
    if (own != NULL) {
        ab_mailbox_release(own);
    }
    Py_XDECREF(loop);
    Py_RETURN_NONE;
}

PyObject *
Batcher_flush(PyObject *op, PyObject *Py_UNUSED(unused))
{
    return ab_inspect(Batcher_CAST(op)) < 0 ? NULL
                                            : call_core(op, ab_batcher_flush);
}

PyObject *
Batcher_look(PyObject *op, PyObject *Py_UNUSED(unused))
{
    return call_core(op, ab_batcher_look);
}

static int
refuse_stopped(Batcher *self, unsigned what)
{
    PyObject *error = ab_exception_of(self, AB_CLOSED);
    if (error == NULL) {
        return -1;
    }
    int status = ab_refuse(self, NULL, what, error);
    Py_DECREF(error);
    return status;
}

/* _drain(): take nothing new; who waits for space is refused. */
PyObject *
Batcher_drain(PyObject *op, PyObject *Py_UNUSED(unused))
{
    if (ab_inspect(Batcher_CAST(op)) < 0) {
        return NULL;
    }
    PyObject *answer = call_core(op, ab_batcher_begin_drain);
    if (refuse_stopped(Batcher_CAST(op), AB_COLLECT_BACKLOG) < 0) {
        Py_CLEAR(answer);
    }
    return answer;
}

/* The tasks of running batches: a list, a new reference. */
static PyObject *
running_tasks(Batcher *self)
{
    PyObject *tasks = PyList_New(0);
    PyObject *task = NULL;
    uint64_t number = 0;
    do {
        Py_CLEAR(task);
        ab_mutex_lock(&self->core->mutex);
        struct ab_batch *batch = self->core->synced_data.batches.first;
        while (batch != NULL &&
               (batch->number <= number || batch->task == NULL)) {
            batch = batch->next;
        }
        if (batch != NULL) {
            number = batch->number;
            task = Py_NewRef((PyObject *)batch->task);
        }
        ab_mutex_unlock(&self->core->mutex);
        if (task != NULL && tasks != NULL && PyList_Append(tasks, task) < 0) {
            Py_CLEAR(tasks);
        }
    } while (task != NULL);
    return tasks;
}

/* _abort() -> list of tasks to cancel: refuse all that is queued or runs. */
PyObject *
Batcher_abort(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    if (ab_inspect(self) < 0) {
        return NULL;
    }
    ab_mutex_lock(&self->core->mutex);
    self->core->synced_data.is_closing = true;
    ab_mutex_unlock(&self->core->mutex);
    int status = refuse_stopped(self, AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG |
                                          AB_COLLECT_RUNNING);
    if (status < 0) {
        return NULL;
    }
    ab_abandon_workers(self);
    // Now: a batch that begins after this finds that it was refused.
    PyObject *tasks = running_tasks(self);
    PyObject *error = PyErr_GetRaisedException();
    ab_batcher_tell_watchers(self->core);
    Py_XDECREF(call_core(op, ab_batcher_begin_drain));
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    return tasks;
}

/* _has_untold(): is anybody of the running loop still to be told? */
PyObject *
Batcher_has_untold(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    PyObject *loop = ab_running_loop(self->state);
    ab_mutex_lock(&self->core->mutex);
    const struct ab_link *link = ab_link_of_locked(self->core, loop);
    bool has_any = link != NULL && link->synced_data.outbox != NULL;
    ab_mutex_unlock(&self->core->mutex);
    Py_XDECREF(loop);
    return PyBool_FromLong(has_any);
}

/* _is_worker(): is this thread one of the batcher's own, at work? */
PyObject *
Batcher_is_worker(PyObject *op, PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(ab_is_served_here(Batcher_CAST(op)));
}

/* _is_inside(): does this thread run a batch of this batcher right now? */
PyObject *
Batcher_is_inside(PyObject *op, PyObject *Py_UNUSED(unused))
{
    struct ab_batcher *core = Batcher_CAST(op)->core;
    unsigned long thread = PyThread_get_thread_ident();
    ab_mutex_lock(&core->mutex);
    struct ab_batch *batch = core->synced_data.batches.first;
    while (batch != NULL &&
           atomic_load_explicit(&batch->thread, memory_order_relaxed) !=
               thread) {
        batch = batch->next;
    }
    ab_mutex_unlock(&core->mutex);
    return PyBool_FromLong(batch != NULL);
}

/* _check(): a TypeError unless __init__ is done. */
PyObject *
Batcher_check(PyObject *op, PyObject *Py_UNUSED(unused))
{
    if (ab_check(Batcher_CAST(op)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* _begin(): count as used from now on. */
PyObject *
Batcher_begin(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    if (ab_inspect(self) < 0) {
        return NULL;
    }
    ab_batcher_begin(self->core);
    Py_RETURN_NONE;
}

/* _reopen(): take items again after a drain. */
PyObject *
Batcher_reopen(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    if (ab_inspect(self) < 0) {
        return NULL;
    }
    ab_batcher_reopen(self->core);
    Py_RETURN_NONE;
}

/* _limits -> dict as it was set last, or None. */
PyObject *
Batcher_get_limits(PyObject *op, void *Py_UNUSED(closure))
{
    Batcher *self = Batcher_CAST(op);
    ab_mutex_lock(&self->core->mutex);
    PyObject *limits = Py_XNewRef(self->limits);
    ab_mutex_unlock(&self->core->mutex);
    return limits != NULL ? limits : Py_NewRef(Py_None);
}

/* Replace the dict and what it says at once, unless another thread did. */
static bool
replace_limits(Batcher *self, PyObject *before, PyObject *after,
               const struct ab_limits *limits, bool has_cost)
{
    ab_mutex_lock(&self->core->mutex);
    PyObject *current = self->limits;
    bool is_same = (current != NULL ? current : Py_None) == before;
    if (is_same) {
        self->limits = Py_NewRef(after);
        atomic_store_explicit(&self->has_cost, has_cost, memory_order_relaxed);
        ab_batcher_set_limits_locked(self->core, limits);
    }
    ab_mutex_unlock(&self->core->mutex);
    if (is_same) {
        Py_XDECREF(current);
    }
    return is_same;
}

/* _set_limits(_limits before, _limits after, size, cost, queue size,
 * queue cost, concurrency, window_ns, prefetched batches, are items asked for
 * their cost without an estimator) -> bool, False if others were set
 * meanwhile.  Checked by the caller; a limit of none is 2**63-1. */
PyObject *
Batcher_set_limits(PyObject *op, PyObject *args)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *before, *after;
    long long size, cost, queue_size, queue_cost, concurrency, window_ns;
    long long prefetch;
    int has_cost;
    if (!PyArg_ParseTuple(args, "OOLLLLLLLp", &before, &after, &size, &cost,
                          &queue_size, &queue_cost, &concurrency, &window_ns,
                          &prefetch, &has_cost)) {
        return NULL;
    }
    const struct ab_limits limits = {
        .max_batch_size = size,
        .max_batch_cost = cost,
        .max_queue_size = queue_size,
        .max_queue_cost = queue_cost,
        .concurrency = concurrency,
        .window_ns = window_ns,
        .prefetch_batches = prefetch,
    };
    has_cost |= self->cost != NULL;
    if (!replace_limits(self, before, after, &limits, has_cost)) {
        Py_RETURN_FALSE;
    }
    Py_DECREF(call_core(op, ab_batcher_look)); // None
    Py_RETURN_TRUE;
}
