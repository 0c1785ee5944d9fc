"""The answer of `bench_request.py` from a FastAPI application."""

from fastapi import FastAPI

application = FastAPI()


@application.get("/")
async def answer():
    return {"status": "ok", "answer": 42, "names": ["a", "b"]}
