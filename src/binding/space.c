/* Callers that wait: for space in the queue, and for idleness. */
#include "binding/batches.h"

#include "core/intake.h"
#include "core/leave.h"

/* Have the item wait for space: its `space` future, a new reference.  NULL
 * with AB_OK never happens; else the status, or the exception that is set. */
static PyObject *
wait_for_space(Batcher *self, PyObject *loop, const struct ab_entry *entry,
               uint64_t *number, enum ab_status *status)
{
    PyObject *space = PyObject_CallNoArgs(self->state->Space);
    if (space == NULL ||
        PyObject_SetAttr(space, self->state->str_item, entry->waiter) < 0) {
        Py_XDECREF(space);
        return NULL;
    }
    struct ab_entry pair[2] = {
        *entry, {.value = Py_NewRef(Py_None), .waiter = Py_NewRef(space)}};
    struct ab_todo todo = {0};
    Py_INCREF(self); // as in ab_push
    *status = ab_batcher_wait_for_space(self->core, loop, pair, number, &todo);
    if (*status == AB_NO_LINK && ab_enter_loop(self, loop) == 0) {
        *status =
            ab_batcher_wait_for_space(self->core, loop, pair, number, &todo);
    }
    ab_finish_todo(self, loop, &todo);
    Py_DECREF(self);
    if (*status != AB_OK) {
        Py_DECREF(Py_None);
        Py_DECREF(space);
        Py_CLEAR(space);
        return NULL;
    }
    // From here on a cancelled item in the queue is noticed at once.
    ab_watch_queued(self, loop);
    ab_batcher_alert_loops(self->core, loop);
    ab_deliver(self, NULL);
    return space;
}

/* Queue the item now, or wait for space: the answer of _submit. */
static PyObject *
submit(Batcher *self, PyObject *loop, PyObject *item, PyObject *future,
       int64_t cost)
{
    struct ab_entry entry = {
        .value = Py_NewRef(item), .waiter = Py_NewRef(future), .cost = cost};
    // Where others wait the queue is watched.
    enum ab_status status = ab_batcher_has_backlog(self->core)
                                ? AB_FULL
                                : ab_push(self, loop, &entry, 1);
    if (status == AB_OK) {
        return PyTuple_Pack(3, future, Py_None, Py_None);
    }
    uint64_t number = 0;
    PyObject *space = status == AB_FULL ? wait_for_space(self, loop, &entry,
                                                         &number, &status)
                                        : NULL;
    if (space != NULL) {
        return Py_BuildValue("ONK", future, space, (unsigned long long)number);
    }
    Py_DECREF(item);
    Py_DECREF(future);
    if (!PyErr_Occurred()) {
        ab_batcher_count_rejected(self->core, 1);
        PyObject *error = ab_push_error(self, status);
        if (error != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        }
    }
    return NULL;
}

/* _submit(item, cost) -> (future, space, number): space is a future that
 * tells when the item is queued, None if it is already. */
PyObject *
Batcher_submit(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    Batcher *self = Batcher_CAST(op);
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_submit() takes an item and a cost");
        return NULL;
    }
    if (ab_inspect(self) < 0) {
        return NULL;
    }
    PyObject *loop = ab_callers_loop(self);
    PyObject *future = NULL, *answer = NULL;
    int64_t cost;
    if (loop == NULL || ab_cost_of(self, args[0], args[1], &cost) < 0) {
        goto done;
    }
    int is_inside = ab_waits_for_itself(self, loop);
    if (is_inside != 0) {
        if (is_inside > 0) {
            ab_set_self_wait_error();
        }
        goto done;
    }
    future = ab_future_new(self->state, loop);
    if (future != NULL) {
        answer = submit(self, loop, args[0], future, cost);
    }
done:
    Py_XDECREF(future);
    Py_XDECREF(loop);
    return answer;
}

/* _cost_of(item, cost) -> what _submit would have the item cost. */
PyObject *
Batcher_cost_of(PyObject *op, PyObject *args)
{
    PyObject *item, *given;
    int64_t cost;
    if (!PyArg_UnpackTuple(args, "_cost_of", 2, 2, &item, &given) ||
        ab_cost_of(Batcher_CAST(op), item, given, &cost) < 0) {
        return NULL;
    }
    return PyLong_FromLongLong(cost);
}

/* _withdraw(number): the caller does not wait any more. */
PyObject *
Batcher_withdraw(PyObject *op, PyObject *number)
{
    Batcher *self = Batcher_CAST(op);
    unsigned long long value = PyLong_AsUnsignedLongLong(number);
    if (PyErr_Occurred()) {
        return NULL;
    }
    PyObject *loop = ab_running_loop(self->state);
    struct ab_entry pair[2];
    struct ab_todo todo = {0};
    bool waited = ab_batcher_withdraw(self->core, value, pair, &todo);
    for (int i = 0; waited && i < 2; i++) {
        Py_XDECREF((PyObject *)pair[i].value);
        Py_XDECREF((PyObject *)pair[i].waiter);
    }
    ab_finish_todo(self, loop, &todo);
    if (!waited) {
        ab_sweep(self, loop, false); // it was admitted already
    }
    ab_deliver(self, NULL);
    Py_XDECREF(loop);
    Py_RETURN_NONE;
}

/* _watch(stops) -> Future: done when nothing is queued, running or untold; for
 * one who stops the batcher when nothing is queued or running. */
PyObject *
Batcher_watch(PyObject *op, PyObject *stops)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *loop = ab_callers_loop(self);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *future = ab_future_new(self->state, loop);
    if (future == NULL) {
        Py_DECREF(loop);
        return NULL;
    }
    ab_sweep(self, loop, false);
    struct ab_entry watcher = {.value = Py_NewRef(Py_None),
                               .waiter = Py_NewRef(future),
                               .kind =
                                   stops == Py_True ? AB_STOPPER : AB_WATCHER};
    struct ab_todo todo = {0};
    Py_INCREF(self); // as in ab_push
    enum ab_status status =
        ab_batcher_watch(self->core, loop, &watcher, &todo);
    if (status == AB_NO_LINK && ab_enter_loop(self, loop) == 0) {
        status = ab_batcher_watch(self->core, loop, &watcher, &todo);
    }
    if (status == AB_OK) {
        ab_finish_todo(self, loop, &todo);
        ab_deliver(self, NULL);
    }
    else {
        Py_DECREF(Py_None);
        Py_DECREF(future);
        Py_CLEAR(future);
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
    }
    Py_DECREF(self);
    Py_DECREF(loop);
    return future;
}
