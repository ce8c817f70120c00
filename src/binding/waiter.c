/* Whom to tell: futures of asyncio, futures of concurrent.futures, and
 * groups, which stand for one future of many items.
 */
#include "binding/state.h"

/* ---- groups ---- */

typedef struct {
    PyObject_HEAD
    PyObject *future;  /* owned; asyncio.Future */
    PyObject *results; /* owned; list */
    size_t left;       // items not told yet
    bool returns_exceptions;
} Group;

#define Group_CAST(op) ((Group *)(op))

PyObject *
ab_group_new(struct ab_state *state, size_t size, bool returns)
{
    PyTypeObject *type = state->group_type;
    Group *self = (Group *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->left = size;
    self->returns_exceptions = returns;
    self->future = PyObject_CallNoArgs(state->Future);
    self->results = PyList_New((Py_ssize_t)size);
    if (self->future == NULL || self->results == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    for (size_t i = 0; i < size; i++) {
        PyList_SET_ITEM(self->results, (Py_ssize_t)i, Py_NewRef(Py_None));
    }
    return (PyObject *)self;
}

PyObject *
ab_group_future(PyObject *group)
{
    return Group_CAST(group)->future;
}

static int
Group_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(Group_CAST(op)->future);
    Py_VISIT(Group_CAST(op)->results);
    return 0;
}

static int
Group_clear(PyObject *op)
{
    Py_CLEAR(Group_CAST(op)->future);
    Py_CLEAR(Group_CAST(op)->results);
    return 0;
}

static void
Group_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)Group_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot group_slots[] = {
    {Py_tp_traverse, Group_traverse},
    {Py_tp_clear, Group_clear},
    {Py_tp_dealloc, Group_dealloc},
    {0, NULL},
};

PyType_Spec ab_group_spec = {
    .name = "async_batcher._core._Group",
    .basicsize = sizeof(Group),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = group_slots,
};

/* ---- all kinds ---- */

static int
is_true_and_drop(PyObject *answer)
{
    if (answer == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return truth;
}

static bool
is_asyncio_future(struct ab_state *state, PyObject *waiter)
{
    return Py_IS_TYPE(waiter, (PyTypeObject *)state->Future);
}

static bool
is_group(struct ab_state *state, PyObject *waiter)
{
    return Py_IS_TYPE(waiter, state->group_type);
}

int
ab_waiter_is_done(struct ab_state *state, PyObject *waiter)
{
    PyObject *answer;
    if (is_group(state, waiter)) {
        // One that failed goes on with its other items, as gather() does.
        answer = PyObject_CallMethodNoArgs(Group_CAST(waiter)->future,
                                           state->str_cancelled);
    }
    else if (is_asyncio_future(state, waiter)) {
        answer = PyObject_CallOneArg(state->future_done, waiter);
    }
    else {
        answer = PyObject_CallMethodNoArgs(waiter, state->str_done);
    }
    int is_done = is_true_and_drop(answer);
    if (is_done < 0) {
        PyErr_WriteUnraisable(waiter);
        return 1; // nothing can be told to it
    }
    return is_done;
}

int
ab_waiter_begin(struct ab_state *state, PyObject *waiter)
{
    if (is_asyncio_future(state, waiter) || is_group(state, waiter)) {
        return !ab_waiter_is_done(state, waiter);
    }
    // From here on this future cannot be cancelled any more.
    int waits = is_true_and_drop(PyObject_CallMethodNoArgs(
        waiter, state->str_set_running_or_notify_cancel));
    if (waits < 0) {
        PyErr_WriteUnraisable(waiter);
        return 0;
    }
    return waits;
}

/* An exception that a future can hold: a new reference.  A future refuses
 * StopIteration, and CancelledError would look like the caller's own. */
static PyObject *
presentable(struct ab_state *state, PyObject *error)
{
    PyObject *type = NULL;
    if (PyErr_GivenExceptionMatches(error, PyExc_StopIteration)) {
        type = PyExc_RuntimeError;
    }
    else if (PyErr_GivenExceptionMatches(error, state->CancelledError)) {
        type = state->BatchCancelledError;
    }
    if (type == NULL) {
        return Py_NewRef(error);
    }
    PyObject *own = PyObject_CallFunction(type, "s", "raised inside a batcher");
    if (own != NULL) {
        PyException_SetCause(own, Py_NewRef(error));
    }
    return own;
}

static int
set_value(struct ab_state *state, PyObject *future, PyObject *value,
          bool is_error)
{
    PyObject *answer;
    if (is_asyncio_future(state, future)) {
        PyObject *args[] = {future, value};
        answer = PyObject_Vectorcall(is_error ? state->future_set_exception
                                              : state->future_set_result,
                                     args, 2, NULL);
    }
    else {
        answer = PyObject_CallMethodOneArg(
            future,
            is_error ? state->str_set_exception : state->str_set_result,
            value);
    }
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

static int
set_future(struct ab_state *state, PyObject *future, PyObject *value,
           bool is_error)
{
    if (!is_error) {
        return set_value(state, future, value, false);
    }
    PyObject *error = presentable(state, value);
    if (error == NULL) {
        return -1;
    }
    int status = set_value(state, future, error, true);
    Py_DECREF(error);
    return status;
}

static int
tell_group(struct ab_state *state, Group *group, uint32_t index,
           PyObject *value, bool is_error)
{
    group->left--;
    int is_done = is_true_and_drop(
        PyObject_CallOneArg(state->future_done, group->future));
    if (is_done != 0) {
        return is_done < 0 ? -1 : 0;
    }
    if (is_error && !group->returns_exceptions) {
        return set_future(state, group->future, value, true);
    }
    if (PyList_SetItem(group->results, index, Py_NewRef(value)) < 0) {
        return -1;
    }
    if (group->left > 0) {
        return 0;
    }
    return set_future(state, group->future, group->results, false);
}

void
ab_waiter_tell(struct ab_state *state, PyObject *waiter, uint32_t index,
               PyObject *value, bool is_error)
{
    int status =
        is_group(state, waiter)
            ? tell_group(state, Group_CAST(waiter), index, value, is_error)
            : set_future(state, waiter, value, is_error);
    if (status == 0) {
        return;
    }
    PyObject *error = PyErr_GetRaisedException();
    // A concurrent.futures.Future may be cancelled by another thread just now.
    if (!ab_waiter_is_done(state, waiter)) {
        PyErr_SetRaisedException(error);
        PyErr_WriteUnraisable(waiter);
    }
    else {
        Py_DECREF(error);
    }
}

/* ---- cancelled entries in the queue ---- */

#define AB_SWEEP_ENTRIES 256

struct sweep {
    PyObject *waiters[AB_SWEEP_ENTRIES]; /* owned */
    uint64_t numbers[AB_SWEEP_ENTRIES];
    size_t count;
};

/* Strong references to the next waiters: a call of `done` may let anything
 * happen to the queue. */
static void
look_at_some(struct ab_batcher *core, uint64_t *from, size_t most,
             struct sweep *sweep)
{
    sweep->count = 0;
    ab_mutex_lock(&core->mutex);
    struct ab_cursor cursor =
        ab_queue_walk(&core->synced_data.queue, *from);
    struct ab_entry *entry;
    while (sweep->count < most
           && (entry = ab_queue_next(&core->synced_data.queue, &cursor))
                  != NULL) {
        sweep->waiters[sweep->count] = Py_NewRef((PyObject *)entry->waiter);
        sweep->numbers[sweep->count++] = cursor.number - 1;
    }
    *from = cursor.number;
    ab_mutex_unlock(&core->mutex);
}

static void
drop_entry(Batcher *self, PyObject *loop, uint64_t number)
{
    struct ab_entry gone;
    struct ab_todo todo = {0};
    if (ab_batcher_drop(self->core, number, &gone, &todo)) {
        Py_DECREF((PyObject *)gone.value);
        Py_DECREF((PyObject *)gone.waiter);
    }
    ab_finish_todo(self, loop, &todo);
}

void
ab_sweep(Batcher *self, PyObject *loop, bool only_head)
{
    struct sweep sweep;
    uint64_t from = 0;
    bool goes_on = true;
    bool has_dropped = false;
    size_t most = only_head ? 1 : AB_SWEEP_ENTRIES;
    while (goes_on) {
        look_at_some(self->core, &from, most, &sweep);
        goes_on = sweep.count == most;
        for (size_t i = 0; i < sweep.count; i++) {
            if (ab_waiter_is_done(self->state, sweep.waiters[i])) {
                drop_entry(self, loop, sweep.numbers[i]);
                has_dropped = true;
            }
            else if (only_head) {
                goes_on = false;
            }
            Py_DECREF(sweep.waiters[i]);
        }
    }
    if (has_dropped) {
        ab_deliver(self, loop);
    }
}

/* ---- noticing cancellation at once ---- */

/* Waiters of the running loop, or of none, that are queued and not watched:
 * strong references.  One waiter of many items in a row comes once. */
static size_t
find_unwatched(Batcher *self, PyObject *loop, PyObject **waiters, size_t most)
{
    struct ab_batcher *core = self->core;
    size_t count = 0;
    ab_mutex_lock(&core->mutex);
    struct ab_link *own = ab_link_of_locked(core, loop);
    struct ab_cursor cursor = ab_queue_walk(&core->synced_data.queue, 0);
    struct ab_entry *entry;
    void *last = NULL;
    while (count < most
           && (entry = ab_queue_next(&core->synced_data.queue, &cursor))
                  != NULL) {
        bool is_ours = entry->link == own || entry->link->mailbox == NULL;
        if (entry->is_watched || !is_ours) {
            continue;
        }
        entry->is_watched = true;
        if (entry->waiter != last) {
            last = entry->waiter;
            waiters[count++] = Py_NewRef((PyObject *)last);
        }
    }
    ab_mutex_unlock(&core->mutex);
    return count;
}

void
ab_watch_queued(Batcher *self, PyObject *loop)
{
    if (!ab_batcher_has_backlog(self->core)) {
        return;
    }
    struct ab_state *state = self->state;
    PyObject *notice = PyObject_GetAttrString((PyObject *)self, "_on_done");
    PyObject *waiters[AB_SWEEP_ENTRIES];
    size_t count;
    while (notice != NULL
           && (count = find_unwatched(self, loop, waiters, AB_SWEEP_ENTRIES))
                  > 0) {
        for (size_t i = 0; i < count; i++) {
            PyObject *future = is_group(state, waiters[i])
                                   ? Group_CAST(waiters[i])->future
                                   : waiters[i];
            PyObject *answer = PyObject_CallMethodOneArg(
                future, state->str_add_done_callback, notice);
            if (answer == NULL) {
                PyErr_WriteUnraisable(future);
            }
            Py_XDECREF(answer);
            Py_DECREF(waiters[i]);
        }
    }
    if (notice == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(notice);
}

static PyObject *
sweep_and_deliver(Batcher *self, PyObject *loop)
{
    ab_sweep(self, loop, false);
    ab_deliver(self, loop);
    Py_RETURN_NONE;
}

/* _sweep(): drop cancelled items now. */
PyObject *
Batcher_sweep(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    atomic_store(&self->sweeps_soon, false);
    PyObject *loop = ab_running_loop(self->state);
    PyObject *answer = sweep_and_deliver(self, loop);
    Py_XDECREF(loop);
    return answer;
}

/* _on_done(future): a watched waiter ended.  However many are cancelled in
 * one loop iteration, they are swept once. */
PyObject *
Batcher_on_done(PyObject *op, PyObject *future)
{
    Batcher *self = Batcher_CAST(op);
    struct ab_state *state = self->state;
    int is_cancelled = is_true_and_drop(
        PyObject_CallMethodNoArgs(future, state->str_cancelled));
    if (is_cancelled < 0) {
        return NULL;
    }
    if (!is_cancelled) {
        Py_RETURN_NONE;
    }
    PyObject *loop = ab_running_loop(state);
    if (loop == NULL) {
        return sweep_and_deliver(self, NULL);
    }
    PyObject *answer = Py_NewRef(Py_None);
    if (!atomic_exchange(&self->sweeps_soon, true)) {
        PyObject *sweep = PyObject_GetAttrString(op, "_sweep");
        Py_SETREF(answer,
                  sweep == NULL ? NULL
                                : PyObject_CallMethodOneArg(
                                    loop, state->str_call_soon, sweep));
        Py_XDECREF(sweep);
    }
    Py_DECREF(loop);
    return answer;
}
