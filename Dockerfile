# deltaprune on a CPU, with its server: docker build -t deltaprune . && docker run --rm -p 8000:8000 deltaprune
# A command of its own: docker run --rm -v "$PWD:/data" -w /data deltaprune ask photo.png "How many red circles are there?"
FROM python:3.11-slim AS build

WORKDIR /source
# From here on a change of the sources does not fetch the packages again.
COPY constraints.txt ./
RUN python -m venv /opt/deltaprune \
 && /opt/deltaprune/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
      -c constraints.txt torch==2.13.0+cpu
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/deltaprune/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.11-slim

# numba needs a folder for its machine code, and the Hub one for what it fetches: both in the user's home.
RUN useradd --create-home --uid 1000 deltaprune
COPY --from=build /opt/deltaprune /opt/deltaprune
ENV PATH="/opt/deltaprune/bin:$PATH" \
    NUMBA_CACHE_DIR=/home/deltaprune/.cache/numba \
    PYTHONUNBUFFERED=1
USER 1000
WORKDIR /home/deltaprune
EXPOSE 8000
ENTRYPOINT ["deltaprune"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
