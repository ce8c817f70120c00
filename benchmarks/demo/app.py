"""The service: one endpoint as people write it, one that batches.

``/plain`` calls the model inside an ``async def`` endpoint, as most tutorials do. A ``def``
endpoint, which FastAPI runs in its thread pool, is the other common form; it is the weaker
opponent here, for its threads fight over the interpreter (README.md has both figures).
``/batched`` hands the row to an ``AsyncBatcher`` and awaits the answer: that is all that differs.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from async_batcher import AsyncBatcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Patient:
    """The body of a request: the ten measurements of one patient."""

    features: list[float]


class Predictor(AsyncBatcher[list[float], float]):
    """Predicts for all patients that came within 5 ms, or while it was busy, in one call."""

    def __init__(self, model: Any) -> None:
        super().__init__(max_batch_size=256, max_queue_time=0.005)
        self.model = model

    def process_batch(self, batch: list[list[float]]) -> list[float]:
        """Predict one number for each row; runs in a worker thread."""
        answers: list[float] = self.model.predict(batch).tolist()
        return answers


def create_app(model: Any) -> FastAPI:
    """Build the service around a fitted model."""
    predictor = Predictor(model)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with predictor:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/plain")
    async def plain(patient: Patient) -> dict[str, float]:
        return {"prediction": float(model.predict([patient.features])[0])}

    @app.post("/batched")
    async def batched(patient: Patient) -> dict[str, float]:
        return {"prediction": await predictor.process(patient.features)}

    return app
