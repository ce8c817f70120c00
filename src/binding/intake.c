/* How items get in: what process_batch wants, what an item costs, and the
 * push that all ways of submitting share.
 */
#include "binding/state.h"

#include "core/intake.h"

int
ab_check(Batcher *self)
{
    if (self->is_initialized) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "%.200s.__init__() did not call super().__init__()",
                 Py_TYPE(self)->tp_name);
    return -1;
}

int
ab_inspect(Batcher *self)
{
    if (ab_check(self) < 0) {
        return -1;
    }
    // Acquire: with it comes is_keyword, which is written before.
    if (atomic_load_explicit(&self->is_inspected, memory_order_acquire)) {
        return 0;
    }
    PyObject *answer = PyObject_CallOneArg(self->state->inspect_process_batch,
                                           (PyObject *)self);
    int is_async, is_keyword;
    if (answer == NULL ||
        !PyArg_ParseTuple(answer, "pp", &is_async, &is_keyword)) {
        Py_XDECREF(answer);
        return -1;
    }
    Py_DECREF(answer);
    ab_mutex_lock(&self->core->mutex);
    // Other threads may have come here at once: the first one's answer counts.
    if (!atomic_load_explicit(&self->is_inspected, memory_order_relaxed)) {
        self->is_keyword = is_keyword;
        self->core->synced_data.host = is_async ? AB_HOST_LOOP
                                       : self->executor != NULL
                                           ? AB_HOST_EXECUTOR
                                           : AB_HOST_WORKER;
        atomic_store_explicit(&self->is_inspected, true, memory_order_release);
    }
    ab_mutex_unlock(&self->core->mutex);
    return 0;
}

/* ---- cost ---- */

/* `source`: what an error says the cost is, or came from. */
static int
check_cost(PyObject *cost, PyObject *source, int64_t *out)
{
    PyObject *kind = NULL;
    if (!PyLong_Check(cost) || PyBool_Check(cost)) {
        kind = PyExc_TypeError;
    }
    else {
        long long value = PyLong_AsLongLong(cost);
        if (value >= 0) {
            *out = value;
            return 0;
        }
        PyErr_Clear(); // negative, or too large for the type
        kind = PyExc_ValueError;
    }
    PyErr_Format(kind,
                 "%U: a cost must be an int from 0 to 2**63-1, not %.200R",
                 source, cost);
    return -1;
}

/* The first method of `item` that is there to be asked: a new reference.
 * NULL without an exception: it has none. */
static PyObject *
find_estimate(Batcher *self, PyObject *item, PyObject **name)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->estimates); i++) {
        *name = PyTuple_GET_ITEM(self->estimates, i);
        PyObject *estimate = NULL;
        if (PyObject_GetOptionalAttr(item, *name, &estimate) != 0) {
            return estimate;
        }
    }
    return NULL;
}

int
ab_cost_of(Batcher *self, PyObject *item, PyObject *given, int64_t *out)
{
    *out = self->default_cost;
    if (given != Py_None) {
        return check_cost(given, self->state->str_estimated_cost, out);
    }
    if (!self->has_cost) {
        return 0;
    }
    PyObject *source = self->cost_name, *cost = NULL;
    if (self->cost != NULL) {
        cost = PyObject_CallOneArg(self->cost, item);
    }
    else {
        PyObject *estimate = find_estimate(self, item, &source);
        if (estimate == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        cost = PyObject_CallNoArgs(estimate);
        Py_DECREF(estimate);
    }
    int status = cost != NULL ? check_cost(cost, source, out) : -1;
    Py_XDECREF(cost);
    return status;
}

/* ---- pushing ---- */

static enum ab_status
push_or_make_room(Batcher *self, PyObject *loop, struct ab_entry *entries,
                  size_t count, struct ab_todo *todo)
{
    bool has_swept = false;
    for (;;) {
        enum ab_status status =
            ab_batcher_push(self->core, loop, entries, count, todo);
        if (status == AB_NO_LINK) {
            if (ab_enter_loop(self, loop) < 0) {
                return AB_NO_LINK; // with the exception set
            }
        }
        else if (status == AB_FULL && !has_swept) {
            ab_sweep(self, loop, false);
            has_swept = true;
        }
        else {
            return status;
        }
    }
}

enum ab_status
ab_push(Batcher *self, PyObject *loop, struct ab_entry *entries, size_t count)
{
    struct ab_todo todo = {0};
    // Another thread may tell the waiter, and drop the reference that pending
    // work holds, before it is added below: this one bridges the gap.
    Py_INCREF(self);
    enum ab_status status =
        push_or_make_room(self, loop, entries, count, &todo);
    ab_finish_todo(self, loop, &todo);
    Py_DECREF(self);
    return status;
}

PyObject *
ab_push_error(Batcher *self, enum ab_status status)
{
    return status == AB_NO_LINK ? PyErr_GetRaisedException()
                                : ab_exception_of(self, status);
}

/* Queue one item whose waiter exists: steals nothing, tells a refused waiter
 * itself. */
static void
hand_in(Batcher *self, PyObject *loop, PyObject *item, PyObject *waiter,
        int64_t cost)
{
    struct ab_entry entry = {
        .value = Py_NewRef(item), .waiter = Py_NewRef(waiter), .cost = cost};
    enum ab_status status = ab_push(self, loop, &entry, 1);
    if (status == AB_OK) {
        return;
    }
    Py_DECREF(item);
    Py_DECREF(waiter);
    ab_batcher_count_rejected(self->core, 1);
    PyObject *error = ab_push_error(self, status);
    if (error == NULL) {
        error = PyErr_GetRaisedException();
    }
    ab_waiter_tell(self->state, waiter, 0, error, AB_ANSWER_ERROR);
    Py_DECREF(error);
}

/* A future that has failed with the exception that is set. */
PyObject *
ab_fail_future(Batcher *self, PyObject *future)
{
    PyObject *error = PyErr_GetRaisedException();
    ab_waiter_tell(self->state, future, 0, error, AB_ANSWER_ERROR);
    Py_DECREF(error);
    return future;
}

static PyObject *
parse_item(PyObject *const *args, Py_ssize_t nargs, PyObject *names,
           const char *function)
{
    Py_ssize_t named = names != NULL ? PyTuple_GET_SIZE(names) : 0;
    if (nargs + named != 1) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes exactly one item (%zd given)", function,
                     nargs + named);
        return NULL;
    }
    if (named == 1 && PyUnicode_CompareWithASCIIString(
                          PyTuple_GET_ITEM(names, 0), "item") != 0) {
        PyErr_Format(PyExc_TypeError,
                     "%s() got an unexpected keyword argument %R", function,
                     PyTuple_GET_ITEM(names, 0));
        return NULL;
    }
    return args[0];
}

/* Would awaiting the item wait for the very batch that asks?  With one permit
 * and from inside the batch's own task it would. 1, 0 or -1. */
int
ab_waits_for_itself(Batcher *self, PyObject *loop)
{
    if (self->inside_thread != PyThread_get_thread_ident()) {
        return 0;
    }
    PyObject *task = PyObject_CallOneArg(self->state->current_task, loop);
    if (task == NULL) {
        return -1;
    }
    int is_inside = task == self->inside_task;
    Py_DECREF(task);
    return is_inside;
}

void
ab_set_self_wait_error(void)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "a batch cannot wait for an item of its own batcher, "
                    "which runs one batch at a time");
}

static PyObject *
process_on(Batcher *self, PyObject *loop, PyObject *item)
{
    struct ab_state *state = self->state;
    PyObject *future = ab_future_new(state, loop);
    if (future == NULL) {
        return NULL;
    }
    int64_t cost;
    if (ab_cost_of(self, item, Py_None, &cost) < 0) {
        return ab_fail_future(self, future);
    }
    int is_inside = ab_waits_for_itself(self, loop);
    if (is_inside != 0) {
        if (is_inside > 0) {
            ab_set_self_wait_error();
        }
        return ab_fail_future(self, future);
    }
    hand_in(self, loop, item, future, cost);
    return future;
}

PyObject *
Batcher_process(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                PyObject *names)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *item = parse_item(args, nargs, names, "process");
    if (item == NULL || ab_inspect(self) < 0) {
        return NULL;
    }
    PyObject *loop = ab_callers_loop(self);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *future = process_on(self, loop, item);
    Py_DECREF(loop);
    return future;
}

/* ---- threads ---- */

/* 1 if some open loop can run an async process_batch; else 0. */
static int
has_host(Batcher *self)
{
    ab_mutex_lock(&self->core->mutex);
    struct ab_link *home = self->core->synced_data.home;
    bool has_home =
        home != NULL && atomic_load_explicit(&home->mailbox->loop,
                                             memory_order_relaxed) != NULL;
    bool needs_loop = self->core->synced_data.host == AB_HOST_LOOP;
    ab_mutex_unlock(&self->core->mutex);
    return has_home || !needs_loop;
}

PyObject *
Batcher_process_threadsafe(PyObject *op, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *names)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *item = parse_item(args, nargs, names, "process_threadsafe");
    if (item == NULL || ab_inspect(self) < 0) {
        return NULL;
    }
    if (!has_host(self)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "an async process_batch needs an event loop: use the "
                        "batcher from a running loop first");
        return NULL;
    }
    PyObject *future = PyObject_CallNoArgs(self->state->concurrent_future);
    if (future == NULL) {
        return NULL;
    }
    int64_t cost;
    if (ab_cost_of(self, item, Py_None, &cost) < 0) {
        return ab_fail_future(self, future);
    }
    hand_in(self, NULL, item, future, cost);
    return future;
}
