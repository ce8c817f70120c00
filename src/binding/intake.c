/* How items get in: what process_batch wants, and the push that all ways of
 * submitting share.
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
            ab_sweep_for_room(self, loop);
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

/* Does `task` step a batch of this batcher on this thread right now, and may
 * no other batch run? */
static bool
is_only_batch(Batcher *self, const PyObject *task)
{
    struct ab_batcher *core = self->core;
    unsigned long thread = PyThread_get_thread_ident();
    ab_mutex_lock(&core->mutex);
    const struct ab_batch *batch = core->synced_data.batches.first;
    while (batch != NULL &&
           (batch->task != task ||
            atomic_load_explicit(&batch->thread, memory_order_relaxed) !=
                thread)) {
        batch = batch->next;
    }
    bool is_only = batch != NULL && core->synced_data.limits.concurrency == 1;
    ab_mutex_unlock(&core->mutex);
    return is_only;
}

int
ab_waits_for_itself(Batcher *self, PyObject *loop)
{
    if (atomic_load_explicit(&self->steps, memory_order_relaxed) == 0) {
        return 0;
    }
    PyObject *task = PyObject_CallOneArg(self->state->current_task, loop);
    if (task == NULL) {
        return -1;
    }
    int is_inside = is_only_batch(self, task);
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

PyObject *
Batcher_process_threadsafe(PyObject *op, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *names)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *item = parse_item(args, nargs, names, "process_threadsafe");
    if (item == NULL || ab_inspect(self) < 0) {
        return NULL;
    }
    if (!ab_batcher_has_host(self->core)) {
        PyObject *error = ab_exception_of(self, AB_NO_HOST);
        if (error != NULL) {
            PyErr_SetRaisedException(error);
        }
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
