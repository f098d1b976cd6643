//! House rules that no other tool checks: size, width, words, headers, links and file names.
//!
//! Every rule is a function from text to complaints, with a test that it can complain. Layering is
//! in `tidy/layers.rs`, dependencies in `tidy/dependencies.rs`. Not here: what rustfmt, clippy or
//! buf already check.

mod dependencies;
mod layers;

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of one Rust file: beyond this a newcomer would rather find two rooms.
const LINES_MAX: usize = 500;
/// Columns of a line of code.
const COLUMNS_MAX: usize = 100;

/// Files of other projects; the README beside each says whose, and its hash.
pub(super) const VENDORED: [&str; 2] =
    ["proto/buf/validate/validate.proto", "proto/google/rpc/error_details.proto"];

/// A text file of the repository.
pub(crate) struct SourceFile {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// Vendored files keep their own habits.
    fn is_ours(&self) -> bool {
        !VENDORED.contains(&&*self.path) && !self.path.starts_with("LICENSE")
    }
}

/// The root of the repository.
pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that could be committed, in path order.
pub(crate) fn files() -> Vec<SourceFile> {
    let mut found = Vec::new();
    collect(&root(), &mut found);
    found.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(found.len() > 20, "the walk found only {} files", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && name != ".ci" && name != ".gitattributes";
        if hidden || name == "target" || name == "node_modules" || name == "Cargo.lock" {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            found.push(SourceFile { path: relative, text });
        }
    }
}

/// Fails with every complaint of a rule over the whole repository.
pub(super) fn tidy(rule: impl Fn(&SourceFile) -> Vec<String>) {
    let complaints: Vec<String> =
        files().iter().filter(|file| file.is_ours()).flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn size_and_width(file: &SourceFile) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = file.text.lines().count();
    if file.is("rs") && lines > LINES_MAX {
        complaints.push(format!("{}: {lines} lines; at most {LINES_MAX}", file.path));
    }
    let is_code = ["rs", "sql", "proto", "sh"].iter().any(|extension| file.is(extension))
        || file.path.ends_with("/run");
    for (index, line) in file.text.lines().enumerate().filter(|_| is_code) {
        // A URL cannot be broken.
        if line.chars().count() > COLUMNS_MAX && !line.contains("://") {
            complaints.push(format!("{}:{}: over {COLUMNS_MAX} columns", file.path, index + 1));
        }
    }
    complaints
}

fn header(file: &SourceFile) -> Vec<String> {
    let wanted = match () {
        () if file.is("rs") => "//! ",
        () if file.is("sql") => "-- ",
        () if file.path.ends_with("/run") => "#!",
        () => return Vec::new(),
    };
    if file.text.starts_with(wanted) {
        return Vec::new();
    }
    vec![format!("{}: the first line says what the file is, after `{wanted}`", file.path)]
}

/// Whether the word at `start..end` stands alone.
fn stands_alone(line: &str, start: usize, end: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    !line[..start].chars().next_back().is_some_and(word)
        && !line[end..].chars().next().is_some_and(word)
}

fn words(file: &SourceFile) -> Vec<String> {
    // Spelled in two halves so that this file may be checked too.
    let reminders = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let banned = [concat!("XX", "X"), concat!("ha", "ck"), concat!("Ha", "ck")];
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let place = format!("{}:{}", file.path, index + 1);
        for word in reminders {
            for (start, _) in line.match_indices(word) {
                let end = start + word.len();
                let numbered = line[end..].trim_start_matches('(').strip_prefix('#');
                let numbered = numbered.is_some_and(|rest| rest.starts_with(char::is_numeric));
                if stands_alone(line, start, end) && !numbered {
                    complaints.push(format!("{place}: `{word}` without the #number of an issue"));
                }
            }
        }
        for word in banned {
            // In quotes it is data: one of them is also a currency code.
            let bare = |(start, _): (usize, &str)| {
                stands_alone(line, start, start + word.len())
                    && !line[..start].ends_with(['"', '`'])
            };
            if line.match_indices(word).any(bare) {
                complaints.push(format!("{place}: `{word}` is banned; say what it is"));
            }
        }
    }
    complaints
}

fn machine_paths(file: &SourceFile) -> Vec<String> {
    let folders = ["work", "root", "farm", "home", "Users", "tmp/wt", "tmp/bash_jobs"];
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for folder in folders {
            let path = format!("/{folder}/");
            let from_the_root = |(start, _): (usize, &str)| {
                let before = line[..start].chars().next_back();
                let after = line[start + path.len()..].chars().next();
                !before.is_some_and(|c| c.is_alphanumeric() || "_.-})".contains(c))
                    && after.is_some_and(char::is_alphanumeric)
            };
            if line.match_indices(&path).any(from_the_root) {
                let place = format!("{}:{}", file.path, index + 1);
                complaints.push(format!("{place}: a path of one machine (`{path}…`)"));
            }
        }
    }
    complaints
}

fn file_name(file: &SourceFile) -> Vec<String> {
    if !file.is("rs") {
        return Vec::new();
    }
    let homeless = ["utils", "util", "helpers", "helper", "common", "misc"];
    let mut complaints = Vec::new();
    for part in file.path.trim_end_matches(".rs").split('/') {
        if homeless.contains(&part) {
            complaints.push(format!("{}: `{part}` is no room; name what it does", file.path));
        }
        if part == "mod" {
            complaints.push(format!("{}: use `name.rs` beside `name/`", file.path));
        }
    }
    complaints
}

/// Every property asks the one place that knows how many cases a run has.
fn cases(file: &SourceFile) -> Vec<String> {
    let ours = concat!("proptest", "! {");
    let uncounted = |start: &usize| {
        let after = file.text[start + ours.len()..].trim_start();
        let counted = ["config()", "histories()", "neighbours()", "sources()"]
            .map(|one| format!("#![proptest_config({one})]"));
        !counted.iter().any(|counted| after.starts_with(counted))
    };
    let starts = file.text.match_indices(ours).map(|(start, _)| start);
    let lines = starts.filter(uncounted).map(|start| file.text[..start].lines().count() + 1);
    lines
        .map(|line| format!("{}:{line}: begin with `#![proptest_config(config())]`", file.path))
        .collect()
}

/// The targets of a Markdown file's relative links, without fragments.
fn links(text: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    for part in text.split("](").skip(1) {
        let target = part.split([')', '#', ' ']).next().unwrap_or_default();
        if !target.is_empty() && !target.contains("://") {
            targets.push(target);
        }
    }
    targets
}

fn dead_links(file: &SourceFile) -> Vec<String> {
    if !file.is("md") {
        return Vec::new();
    }
    let folder = root().join(&file.path).parent().unwrap().to_owned();
    let dead = links(&file.text).into_iter().filter(|target| !folder.join(target).exists());
    dead.map(|target| format!("{}: links to `{target}`, which is not there", file.path)).collect()
}

/// The recipe names of a justfile: lines that begin with a name and hold a colon.
fn recipes(justfile: &str) -> Vec<&str> {
    let heads = justfile.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    heads.filter_map(|line| line.split([':', ' ']).next()).collect()
}

/// The verbs named in code spans and code blocks as `just verb`.
fn named_recipes(text: &str) -> Vec<&str> {
    let starts = text.split("`just ").skip(1).chain(text.split("\njust ").skip(1));
    starts
        .filter_map(|part| part.split(|c: char| !(c == '-' || c.is_alphabetic())).next())
        .collect()
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn files_are_short_and_narrow() {
    tidy(size_and_width);
}

#[test]
fn every_file_says_what_it_is_on_its_first_line() {
    tidy(header);
}

#[test]
fn reminders_carry_an_issue_and_careless_words_are_absent() {
    tidy(words);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    tidy(machine_paths);
}

#[test]
fn modules_have_telling_names() {
    tidy(file_name);
}

#[test]
fn every_property_runs_as_many_cases_as_the_run_asks_for() {
    tidy(|file| if file.is("rs") { cases(file) } else { Vec::new() });
}

#[test]
fn links_between_documents_lead_somewhere() {
    tidy(dead_links);
}

#[test]
fn the_commands_of_the_documents_exist() {
    let readme = read("README.md");
    assert!(readme.contains("\ncargo run --release -- dev\n"), "README: the command to run it");
    assert!(readme.contains("\ntests/run\n"), "README: the command to test it");
    assert!(read(".ci/run").contains("\nexec tests/run\n"), ".ci/run is the README's test command");

    let justfile = read("justfile");
    let verbs = ["dev", "check", "test", "test-all", "gen", "migrate", "bench", "release"];
    assert_eq!(recipes(&justfile), verbs);
    tidy(|file| {
        let named = if file.is("md") { named_recipes(&file.text) } else { Vec::new() };
        let unknown = named.into_iter().filter(|name| !verbs.contains(name));
        unknown.map(|name| format!("{}: `just {name}` does not exist", file.path)).collect()
    });
}

#[cfg(unix)]
#[test]
fn the_scripts_are_executable() {
    use std::os::unix::fs::PermissionsExt;
    for script in [".ci/run", "tests/run", "deploy/roles.sh"] {
        let mode = fs::metadata(root().join(script)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is not executable");
    }
}

#[test]
fn the_changelog_has_room_for_the_next_change() {
    assert!(read("CHANGELOG.md").contains("\n## [Unreleased]\n"));
}

#[test]
fn each_rule_can_complain() {
    let rust = |text: &str| SourceFile::new("src/some/place.rs", text);
    assert_eq!(size_and_width(&rust(&"\n".repeat(501))).len(), 1);
    assert_eq!(size_and_width(&rust(&"é".repeat(101))).len(), 1);
    assert_eq!(size_and_width(&rust(&"é".repeat(100))).len(), 0);
    assert_eq!(header(&rust("use std::fs;")).len(), 1);
    assert_eq!(header(&SourceFile::new("migrations/0001_create.sql", "create")).len(), 1);
    let reminder = concat!("// TO", "DO: later, TO", "DO(#12) not, TO", "DOS not");
    assert_eq!(words(&rust(reminder)).len(), 1);
    assert_eq!(words(&rust(concat!("// a ha", "ck, not a ha", "ckney"))).len(), 1);
    let path = format!("// see {}root/x and src{}root/x", '/', '/');
    assert_eq!(machine_paths(&rust(&path)).len(), 1);
    let path = format!("GET /api/v1/home/x, ${{HOME}}{}work/x", '/');
    assert_eq!(machine_paths(&rust(&path)).len(), 0);
    assert_eq!(file_name(&SourceFile::new("src/store/mod.rs", "")).len(), 1);
    assert_eq!(file_name(&SourceFile::new("src/utils/text.rs", "")).len(), 1);
    let property = concat!("proptest", "! {\n    #![proptest_config(config())]\n}\n");
    assert_eq!(cases(&rust(property)).len(), 0);
    assert_eq!(cases(&rust(&property.replace("config())", "ProptestConfig::default())"))).len(), 1);
    let page = SourceFile::new("README.md", "[a](absent.md) [b](Cargo.toml#x) [c](https://a.b)");
    assert_eq!(dead_links(&page).len(), 1);
    assert_eq!(named_recipes("run `just check`\njust test-all\n"), ["check", "test-all"]);
}
