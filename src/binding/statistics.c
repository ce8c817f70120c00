/* What a batcher counted, as objects of Python. */
#include "binding/state.h"

#include "core/clock.h"
#include "core/decide.h"

static PyObject *
build_cost(const struct ab_cost *cost)
{
    PyObject *high = PyLong_FromUnsignedLongLong(cost->high);
    PyObject *low = PyLong_FromUnsignedLongLong(cost->low);
    PyObject *bits = PyLong_FromLong(64);
    PyObject *shifted = NULL, *sum = NULL;
    if (high != NULL && low != NULL && bits != NULL) {
        shifted = PyNumber_Lshift(high, bits);
    }
    if (shifted != NULL) {
        sum = PyNumber_Or(shifted, low);
    }
    Py_XDECREF(shifted);
    Py_XDECREF(bits);
    Py_XDECREF(low);
    Py_XDECREF(high);
    return sum;
}

static PyObject *
build_histogram(const struct ab_histogram *histogram)
{
    PyObject *counts = PyTuple_New(AB_HISTOGRAM_BUCKETS);
    for (Py_ssize_t i = 0; counts != NULL && i < AB_HISTOGRAM_BUCKETS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(histogram->buckets[i]);
        if (count == NULL) {
            Py_CLEAR(counts);
            break;
        }
        PyTuple_SET_ITEM(counts, i, count);
    }
    if (counts == NULL) {
        return NULL;
    }
    return Py_BuildValue("KdN", (unsigned long long)histogram->count,
                         (double)histogram->sum_ns / 1e9, counts);
}

static PyObject *
build_reasons(const struct ab_meter *meter)
{
    PyObject *reasons = PyDict_New();
    for (size_t i = 0; reasons != NULL && i < AB_REASONS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(meter->reasons[i]);
        if (count == NULL ||
            PyDict_SetItemString(reasons, ab_reason_names[i], count) < 0) {
            Py_CLEAR(reasons);
        }
        Py_XDECREF(count);
    }
    return reasons;
}

/* _snapshot() -> dict of what the batcher counted, cancelled entries noticed
 * before. */
PyObject *
Batcher_snapshot(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    PyObject *loop = ab_running_loop(self->state);
    ab_sweep(self, loop, false);
    Py_XDECREF(loop);
    struct ab_batcher *core = self->core;
    ab_mutex_lock(&core->mutex);
    struct ab_meter meter =
        ab_meter_read(&core->synced_data.meter, ab_clock_now_ns());
    Py_ssize_t queued = (Py_ssize_t)core->synced_data.queue.length;
    Py_ssize_t running = (Py_ssize_t)core->synced_data.running;
    Py_ssize_t prefetched = (Py_ssize_t)ab_prefetched_locked(core);
    ab_mutex_unlock(&core->mutex);
    return Py_BuildValue("{sKsKsKsKsKsKsKsnsnsnsNsNsNsdsdsNsO}", "submitted",
                         (unsigned long long)meter.submitted, "completed",
                         (unsigned long long)meter.completed, "failed",
                         (unsigned long long)meter.failed, "cancelled",
                         (unsigned long long)meter.cancelled, "rejected",
                         (unsigned long long)meter.rejected, "batches",
                         (unsigned long long)meter.batches, "batched_items",
                         (unsigned long long)meter.batched_items, "queued",
                         queued, "running", running, "prefetched", prefetched,
                         "total_cost", build_cost(&meter.total_cost),
                         "queue_wait", build_histogram(&meter.queue_wait),
                         "batch_time", build_histogram(&meter.batch_time),
                         "busy_s", (double)meter.busy_ns / 1e9, "idle_s",
                         (double)meter.idle_ns / 1e9, "reasons",
                         build_reasons(&meter), "is_used",
                         meter.since_ns != 0 ? Py_True : Py_False);
}
