"""An OpenAI-compatible server: `create_app(vlm, processor, settings)` is a FastAPI app, `deltaprune serve` runs it.

app  ->  engine (prepare: pool)  ->  scheduler (one model thread)  ->  VLM
gate     job, piece                  prefixes, decoding
"""
