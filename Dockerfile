# The service, as docs/install.md has it. Its build has not been tried.
FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY colorizer_tf colorizer_tf
RUN pip install --no-cache-dir ".[service]"
RUN useradd --create-home colorizer
USER colorizer
EXPOSE 8000
CMD ["colorizer-tf", "serve", "--host", "0.0.0.0", "--port", "8000"]
