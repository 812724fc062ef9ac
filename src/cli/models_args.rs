//! The command line of `maskwatch models`: its verbs and flags, with their help.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `maskwatch models`
#[derive(Debug, Args)]
pub struct ModelsArguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: ModelsVerb,
}

/// The verbs of a models folder.
#[derive(Debug, Subcommand)]
pub enum ModelsVerb {
    /// Copies a bundle into the folder, under its model_id. The folder is made if it is not there.
    Add(AddArguments),
    /// Lists the models, the oldest first.
    List(ListArguments),
    /// Shows one model: what it was made from, what it promises, and what was done with it.
    Show(ShowArguments),
    /// Makes a model the champion, which serves. A running daemon exchanges it within a second or two.
    Promote(ModelArguments),
    /// Makes the champion before this one the champion again.
    Rollback(FolderArguments),
    /// Makes a model the challenger, which is tried beside the champion.
    Challenge(ChallengeArguments),
    /// Retires a model: it may be neither champion nor challenger any more. Its bundle stays.
    Retire(RetireArguments),
}

/// Who changes the folder, and why.
#[derive(Debug, Args)]
pub struct ActorArguments {
    /// Who does this, for the log [default: the user's name from the environment].
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// `maskwatch models add`
#[derive(Debug, Args)]
pub struct AddArguments {
    /// The models folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The bundle's folder. It stays as it is.
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Who and why.
    #[command(flatten)]
    pub actor: ActorArguments,
}

/// `maskwatch models list`
#[derive(Debug, Args)]
pub struct ListArguments {
    /// The models folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `maskwatch models show`
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The models folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The model: its id, the first characters of it (4 at least), `champion` or `challenger`.
    #[arg(value_name = "ID", default_value = "champion")]
    pub id: String,
}

/// `maskwatch models promote`
#[derive(Debug, Args)]
pub struct ModelArguments {
    /// The models folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The model: its id, the first characters of it (4 at least), or `challenger`.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Who and why.
    #[command(flatten)]
    pub actor: ActorArguments,
}

/// `maskwatch models rollback`
#[derive(Debug, Args)]
pub struct FolderArguments {
    /// The models folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Who and why.
    #[command(flatten)]
    pub actor: ActorArguments,
}

/// `maskwatch models challenge`
#[derive(Debug, Args)]
pub struct ChallengeArguments {
    /// The models folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The model: its id, or the first characters of it (4 at least).
    #[arg(value_name = "ID", required_unless_present = "none")]
    pub id: Option<String>,
    /// Leave the champion without a challenger.
    #[arg(long, conflicts_with = "id")]
    pub none: bool,
    /// Who and why.
    #[command(flatten)]
    pub actor: ActorArguments,
}

/// `maskwatch models retire`
#[derive(Debug, Args)]
pub struct RetireArguments {
    /// The models folder.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The model: its id, or the first characters of it (4 at least).
    #[arg(value_name = "ID")]
    pub id: String,
    /// Remove its bundle too.
    #[arg(long)]
    pub delete: bool,
    /// Who and why.
    #[command(flatten)]
    pub actor: ActorArguments,
}
