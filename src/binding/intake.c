/* How items get in: one by one, many at once, from threads without a loop,
 * and by callers that wait for space.
 */
#include "binding/state.h"

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
    if (ab_check(self) < 0 || self->is_inspected) {
        return self->is_inspected ? 0 : -1;
    }
    PyObject *answer = PyObject_CallOneArg(self->state->inspect_process_batch,
                                           (PyObject *)self);
    int is_async, is_keyword;
    if (answer == NULL
        || !PyArg_ParseTuple(answer, "pp", &is_async, &is_keyword)) {
        Py_XDECREF(answer);
        return -1;
    }
    Py_DECREF(answer);
    self->is_keyword = is_keyword;
    ab_mutex_lock(&self->core->mutex);
    self->core->synced_data.host = is_async ? AB_HOST_LOOP
                                   : self->executor != NULL
                                       ? AB_HOST_EXECUTOR
                                       : AB_HOST_WORKER;
    ab_mutex_unlock(&self->core->mutex);
    self->is_inspected = true;
    return 0;
}

/* ---- cost ---- */

static int
check_cost(PyObject *cost, int64_t *out)
{
    if (!PyLong_Check(cost) || PyBool_Check(cost)) {
        PyErr_Format(PyExc_TypeError,
                     "cost must be an int from 0 to 2**63-1, not %R", cost);
        return -1;
    }
    long long value = PyLong_AsLongLong(cost);
    if (value < 0) { // or too large for the type
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError,
                     "cost must be an int from 0 to 2**63-1, not %R", cost);
        return -1;
    }
    *out = value;
    return 0;
}

static int
cost_of(Batcher *self, PyObject *item, int64_t *out)
{
    *out = 1;
    if (!self->has_cost) {
        return 0;
    }
    PyObject *cost;
    if (self->cost != NULL) {
        cost = PyObject_CallOneArg(self->cost, item);
    }
    else {
        PyObject *estimate =
            PyObject_GetAttr(item, self->state->str_estimate_cost);
        if (estimate == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
                return -1;
            }
            PyErr_Clear();
            return 0;
        }
        cost = PyObject_CallNoArgs(estimate);
        Py_DECREF(estimate);
    }
    if (cost == NULL) {
        return -1;
    }
    int status = check_cost(cost, out);
    Py_DECREF(cost);
    return status;
}

/* ---- pushing ---- */

/* Push, after making room: the loop is made known, and cancelled entries are
 * dropped before anything is refused. */
static enum ab_status
push(Batcher *self, PyObject *loop, struct ab_entry *entries, size_t count,
     struct ab_todo *todo)
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

/* The exception of a failed push: a new reference. */
static PyObject *
take_error(Batcher *self, enum ab_status status)
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
    struct ab_todo todo = {0};
    struct ab_entry entry = {.value = Py_NewRef(item),
                             .waiter = Py_NewRef(waiter),
                             .cost = cost};
    enum ab_status status = push(self, loop, &entry, 1, &todo);
    if (status == AB_OK) {
        ab_finish_todo(self, loop, &todo);
        return;
    }
    Py_DECREF(item);
    Py_DECREF(waiter);
    ab_batcher_count_rejected(self->core, 1);
    PyObject *error = take_error(self, status);
    if (error == NULL) {
        error = PyErr_GetRaisedException();
    }
    ab_waiter_tell(self->state, waiter, 0, error, true);
    Py_DECREF(error);
}

/* A future that has failed with the exception that is set. */
static PyObject *
fail_future(Batcher *self, PyObject *future)
{
    PyObject *error = PyErr_GetRaisedException();
    ab_waiter_tell(self->state, future, 0, error, true);
    Py_DECREF(error);
    return future;
}

static PyObject *
parse_item(PyObject *const *args, Py_ssize_t nargs, PyObject *names,
           const char *function)
{
    Py_ssize_t named = names != NULL ? PyTuple_GET_SIZE(names) : 0;
    if (nargs + named != 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes exactly one item (%zd given)",
                     function, nargs + named);
        return NULL;
    }
    if (named == 1
        && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "item")
               != 0) {
        PyErr_Format(PyExc_TypeError,
                     "%s() got an unexpected keyword argument %R", function,
                     PyTuple_GET_ITEM(names, 0));
        return NULL;
    }
    return args[0];
}

/* Would awaiting the item wait for the very batch that asks?  With one permit
 * and from inside the batch's own task it would. 1, 0 or -1. */
static int
waits_for_itself(Batcher *self, PyObject *loop)
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

static void
set_self_wait_error(void)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "process_batch of a batcher with concurrency=1 cannot "
                    "wait for an item of its own batcher");
}

static PyObject *
process_on(Batcher *self, PyObject *loop, PyObject *item)
{
    struct ab_state *state = self->state;
    PyObject *future = PyObject_CallNoArgs(state->Future);
    if (future == NULL) {
        return NULL;
    }
    int64_t cost;
    if (cost_of(self, item, &cost) < 0) {
        return fail_future(self, future);
    }
    int is_inside = waits_for_itself(self, loop);
    if (is_inside != 0) {
        if (is_inside > 0) {
            set_self_wait_error();
        }
        return fail_future(self, future);
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
    PyObject *loop = PyObject_CallNoArgs(self->state->get_running_loop);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *future = process_on(self, loop, item);
    Py_DECREF(loop);
    return future;
}

/* ---- many at once ---- */

/* Costs come from user code: all are asked before anything is queued. */
static struct ab_entry *
make_entries(Batcher *self, PyObject *items, PyObject *group)
{
    Py_ssize_t count = PyList_GET_SIZE(items);
    struct ab_entry *entries = PyMem_Calloc((size_t)count, sizeof *entries);
    if (entries == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (cost_of(self, PyList_GET_ITEM(items, i), &entries[i].cost) < 0) {
            PyMem_Free(entries);
            return NULL;
        }
        entries[i].index = (uint32_t)i;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        entries[i].value = Py_NewRef(PyList_GET_ITEM(items, i));
        entries[i].waiter = Py_NewRef(group);
    }
    return entries;
}

static void
drop_entries(struct ab_entry *entries, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_DECREF((PyObject *)entries[i].value);
        Py_DECREF((PyObject *)entries[i].waiter);
    }
}

static PyObject *
process_list(Batcher *self, PyObject *loop, PyObject *items, bool returns)
{
    Py_ssize_t count = PyList_GET_SIZE(items);
    PyObject *group =
        ab_group_new(self->state, (size_t)count, returns);
    if (group == NULL) {
        return NULL;
    }
    PyObject *future = Py_NewRef(ab_group_future(group));
    struct ab_todo todo = {0};
    struct ab_entry *entries = NULL;
    if (count == 0) {
        PyObject *empty = PyList_New(0);
        if (empty == NULL) {
            Py_CLEAR(future);
            goto done;
        }
        ab_waiter_tell(self->state, future, 0, empty, false);
        Py_DECREF(empty);
        goto done;
    }
    entries = make_entries(self, items, group);
    int is_inside = entries != NULL ? waits_for_itself(self, loop) : -1;
    if (is_inside != 0) {
        if (is_inside > 0) {
            set_self_wait_error();
        }
        if (entries != NULL) {
            drop_entries(entries, count);
        }
        future = fail_future(self, future);
        goto done;
    }
    enum ab_status status = push(self, loop, entries, (size_t)count, &todo);
    if (status == AB_OK) {
        ab_finish_todo(self, loop, &todo);
        goto done;
    }
    drop_entries(entries, count);
    ab_batcher_count_rejected(self->core, (size_t)count);
    PyObject *error = take_error(self, status);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    future = fail_future(self, future);
done:
    PyMem_Free(entries);
    Py_DECREF(group);
    return future;
}

PyObject *
Batcher_process_many(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *names)
{
    Batcher *self = Batcher_CAST(op);
    Py_ssize_t named = names != NULL ? PyTuple_GET_SIZE(names) : 0;
    PyObject *items = nargs > 0 ? args[0] : NULL;
    int returns = 0;
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "return_exceptions") == 0) {
            returns = PyObject_IsTrue(args[nargs + i]);
        }
        else if (items == NULL
                 && PyUnicode_CompareWithASCIIString(name, "items") == 0) {
            items = args[nargs + i];
        }
        else {
            PyErr_Format(PyExc_TypeError,
                         "process_many() got an unexpected keyword argument "
                         "%R",
                         name);
            return NULL;
        }
    }
    if (nargs > 1 || items == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "process_many() takes one iterable of items");
        return NULL;
    }
    if (returns < 0 || ab_inspect(self) < 0) {
        return NULL;
    }
    PyObject *loop = PyObject_CallNoArgs(self->state->get_running_loop);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *future = NULL;
    PyObject *list = PySequence_List(items);
    if (list != NULL && PyList_GET_SIZE(list) > (Py_ssize_t)UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError,
                        "process_many() takes at most 2**32-1 items");
    }
    else if (list != NULL) {
        future = process_list(self, loop, list, returns);
    }
    Py_XDECREF(list);
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
    bool has_home = home != NULL
                    && atomic_load_explicit(&home->mailbox->loop,
                                            memory_order_relaxed)
                           != NULL;
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
    if (cost_of(self, item, &cost) < 0) {
        return fail_future(self, future);
    }
    hand_in(self, NULL, item, future, cost);
    return future;
}

/* ---- waiting for space, and for idleness ---- */

/* _submit(item) -> (future, space, number): space is a future that tells when
 * the item is queued, None if it is already. */
PyObject *
Batcher_submit(PyObject *op, PyObject *item)
{
    Batcher *self = Batcher_CAST(op);
    if (ab_inspect(self) < 0) {
        return NULL;
    }
    PyObject *loop = PyObject_CallNoArgs(self->state->get_running_loop);
    PyObject *future = NULL, *space = NULL, *answer = NULL;
    int64_t cost;
    if (loop == NULL || cost_of(self, item, &cost) < 0) {
        goto done;
    }
    future = PyObject_CallNoArgs(self->state->Future);
    if (future == NULL) {
        goto done;
    }
    struct ab_todo todo = {0};
    struct ab_entry entry = {.value = Py_NewRef(item),
                             .waiter = Py_NewRef(future),
                             .cost = cost};
    enum ab_status status = push(self, loop, &entry, 1, &todo);
    if (status == AB_OK) {
        ab_finish_todo(self, loop, &todo);
        answer = PyTuple_Pack(3, future, Py_None, Py_None);
        goto done;
    }
    uint64_t number = 0;
    if (status == AB_FULL) {
        space = PyObject_CallNoArgs(self->state->Future);
        if (space != NULL) {
            struct ab_entry pair[2] = {
                entry, {.value = Py_NewRef(Py_None),
                        .waiter = Py_NewRef(space)}};
            status = ab_batcher_wait_for_space(self->core, loop, pair,
                                               &number, &todo);
            if (status != AB_OK) {
                Py_DECREF(Py_None);
                Py_DECREF(space);
            }
        }
    }
    if (status == AB_OK) {
        ab_finish_todo(self, loop, &todo);
        atomic_store(&self->sweeps_soon, false);
        ab_watch_queued(self, loop);
        ab_batcher_alert_loops(self->core, loop);
        ab_sweep(self, loop, false); // cancelled since push looked
        ab_deliver(self, loop);
        answer = Py_BuildValue("OOK", future, space,
                               (unsigned long long)number);
        goto done;
    }
    Py_DECREF(item);
    Py_DECREF(future);
    if (!PyErr_Occurred()) {
        ab_batcher_count_rejected(self->core, 1);
        PyObject *error = take_error(self, status);
        if (error != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        }
    }
done:
    Py_XDECREF(space);
    Py_XDECREF(future);
    Py_XDECREF(loop);
    return answer;
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
    if (ab_batcher_withdraw(self->core, value, pair, &todo)) {
        for (int i = 0; i < 2; i++) {
            Py_XDECREF((PyObject *)pair[i].value);
            Py_XDECREF((PyObject *)pair[i].waiter);
        }
    }
    ab_finish_todo(self, loop, &todo);
    ab_sweep(self, loop, false);
    ab_deliver(self, loop);
    Py_XDECREF(loop);
    Py_RETURN_NONE;
}

/* _watch() -> Future: done when nothing is queued, running or untold. */
PyObject *
Batcher_watch(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    PyObject *loop = PyObject_CallNoArgs(self->state->get_running_loop);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *future = PyObject_CallNoArgs(self->state->Future);
    if (future == NULL) {
        Py_DECREF(loop);
        return NULL;
    }
    ab_sweep(self, loop, false);
    struct ab_entry watcher = {.value = Py_NewRef(Py_None),
                               .waiter = Py_NewRef(future)};
    struct ab_todo todo = {0};
    enum ab_status status =
        ab_batcher_watch(self->core, loop, &watcher, &todo);
    if (status == AB_NO_LINK && ab_enter_loop(self, loop) == 0) {
        status = ab_batcher_watch(self->core, loop, &watcher, &todo);
    }
    if (status != AB_OK) {
        Py_DECREF(Py_None);
        Py_DECREF(future);
        Py_CLEAR(future);
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
    }
    ab_finish_todo(self, loop, &todo);
    ab_deliver(self, loop);
    Py_DECREF(loop);
    return future;
}
