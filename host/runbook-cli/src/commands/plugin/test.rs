//! `runbook plugin test`.

use runbook_model::exit_code;

use super::project::Project;
use crate::args;
use crate::error::CliError;

/// Runs all that a project has to show for itself. The first failure ends it.
pub(crate) async fn run(args: &args::Project) -> Result<u8, CliError> {
    let project = Project::open(&args.dir)?;
    project.unit_tests()?;
    super::say("unit tests passed");
    let path = project.build()?;
    let bytes = std::fs::read(&path).map_err(|error| CliError::refused(format!("{}: {error}", path.display())))?;
    super::load(&project.name, bytes).await?;
    super::say("the component loads, and says of itself what its manifest says");
    let cassettes = super::cassettes::replay(&project.name, &path, &project.dir.join("cassettes")).await?;
    super::say(&format!("{cassettes} cassettes: it acts as it did when they were recorded"));
    if !project.dir.join("cases").is_dir() {
        return Ok(exit_code::SUCCESS);
    }
    super::verify::run(&args::Laws::of_project(&args.dir)).await
}
