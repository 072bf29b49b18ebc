# A thin cover for `python3 tools TASK`, which does the work and also runs where there is no make.
# A Python of your own: make PYTHON=python3.12 book

PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help book pdf test serve lab refresh bench lint lock clean python

help pdf lab bench lock: python
	@$(PYTHON) tools $@

book: python
	@$(PYTHON) tools book $(if $(REPO),--repository $(REPO)) $(if $(BRANCH),--branch $(BRANCH)) $(if $(SITE),--site $(SITE))

test: python
	@$(PYTHON) tools test $(if $(NO_SITE),--no-site) $(if $(QUICK),--quick) -- $(ARGS)

serve: python
	@$(PYTHON) tools serve $(if $(PORT),--port $(PORT))

refresh: python
	@$(PYTHON) tools refresh $(NB)

lint: python
	@$(PYTHON) tools lint $(if $(FIX),--fix)

clean: python
	@$(PYTHON) tools clean $(if $(ALL),--all)

python:
	@command -v $(firstword $(PYTHON)) >/dev/null 2>&1 || { \
	  echo "There is no $(firstword $(PYTHON)) here. Install Python 3.11 or newer, or name yours: make PYTHON=python3.12 book" >&2; exit 2; }
