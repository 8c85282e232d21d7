# make run: everything set up; the sample colored by the generator of the package;
#           a generator trained on the sample, and evaluated
# make test: everything set up, a browser too where that can be, lint and tests
# make photos: the project's own photos, downloaded to data/photos
# make lock: the versions of all packages, in constraints.txt
# make docs: the documentation as a site, in site/, with the page to try in site/try;
#            a warning is an error
PYTHON ?= python3
# Many containers set it. Each of the processes below would then compile all its modules.
unexport PYTHONDONTWRITEBYTECODE
VENV = .venv
BIN = $(VENV)/bin
RUN = runs/sample

.PHONY: run test browser photos docs lock clean

run: $(VENV)/installed
	mkdir -p $(RUN)
	$(BIN)/papermill --log-output notebooks/04_colorize.ipynb $(RUN)/04_colorize.ipynb \
		-p output $(RUN)/colorized
	@echo "In color, by the generator of the package: $(RUN)/colorized"
	$(BIN)/papermill --log-output notebooks/02_train.ipynb $(RUN)/02_train.ipynb \
		-p photos sample -p run_dir $(RUN) -p batch_size 32 \
		-p epochs 6 -p adversarial_epochs 1
	$(BIN)/papermill --log-output notebooks/03_evaluate.ipynb $(RUN)/03_evaluate.ipynb \
		-p runs $(RUN) -p check True
	@echo "Learned just now: $(RUN)/test_photos.png"

test: $(VENV)/installed browser
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/ty check --python $(BIN)/python
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The tests of the page want Chromium and Firefox; without them they are skipped.
# $(1) is the package of Debian, $(2) the commands that it may have.
want_browser = for name in $(2); do command -v $$name && exit; done; \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends $(1) >/dev/null; } \
	|| echo "No $(1), and it could not be installed: its tests are skipped."

browser:
	@$(call want_browser,chromium,chromium chromium-browser google-chrome)
	@$(call want_browser,firefox-esr,firefox-esr firefox)

photos: $(VENV)/installed
	$(BIN)/python -c "import colorizer_tf; colorizer_tf.download_photos()"

docs: $(VENV)/installed
	$(BIN)/python docs/build.py
	$(BIN)/colorizer-tf site build/docs/try
	$(BIN)/zensical build --clean --strict

# uv takes a tenth of pip's time. If it fails, pip installs the newest versions.
$(VENV)/installed: requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python \
			--constraint constraints.txt --editable ".[dev]" \
		|| { echo "uv failed: pip installs instead, which takes minutes."; \
			$(BIN)/python -m pip install --quiet --editable ".[dev]"; }
	touch $@

# These are the versions that .venv gets.
lock: $(VENV)/installed
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate \
		--custom-compile-command "make lock" --extra dev pyproject.toml \
		--output-file constraints.txt

clean:
	rm -rf $(VENV)
