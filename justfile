# The project's verbs; `just` alone lists them.

_list:
  @{{just_executable()}} --list --unsorted

# Run the server with everything embedded, on this machine only
dev *arguments:
  cargo run --release -- dev {{arguments}}

# Format, lints, docs, contract and dependencies: everything that needs no test run
check:
  tests/run --check

# The daily tests, in a few minutes
test:
  tests/run --fast

# Everything, as CI runs it
test-all:
  tests/run

# Rewrite what is generated and committed (the test writes it and fails once, then passes)
gen:
  cargo test --locked --test it the_errors_page || cargo test --locked --test it the_errors_page

# Bring the database of `serve` to the schema of this version
migrate *arguments:
  cargo run --release -- migrate {{arguments}}

# Measure: medians, ratios and the machine's own ceilings
bench *arguments:
  cargo bench --locked {{arguments}}

# Build the binary to ship: target/release/quetra
release:
  cargo build --locked --release
