//! Plans and differences for people: coloured on a terminal, plain elsewhere.

use console::{Style, style};

use crate::fleet::{Action, Kind, Sign, Summary, Touched};

/// Shows a plan with what it comes to.
pub(super) fn plan(touched: &[Touched]) {
    difference(touched);
    let summary = Summary::of(touched);
    if touched.is_empty() {
        println!("Nothing to change: the fleet is what the files say.");
        return;
    }
    println!(
        "Plan: {} to create, {} to change, {} to delete.",
        summary.create, summary.update, summary.delete
    );
}

/// Shows what is different.
pub(super) fn difference(touched: &[Touched]) {
    for one in touched {
        let sign = match one.action {
            Action::Create => Sign::Add,
            Action::Update => Sign::Change,
            Action::Delete => Sign::Remove,
        };
        let consequence = match (one.action, one.kind) {
            (Action::Delete, Kind::Satellite) => ": its identity is refused from then on",
            (Action::Delete, Kind::Group) => ": its satellites lose what only it asks for",
            _ => "",
        };
        println!("{} {} {}{consequence}", mark(sign), one.kind, style(&one.name).bold());
        for (sign, text) in &one.lines {
            println!("    {} {text}", mark(*sign));
        }
    }
}

fn mark(sign: Sign) -> impl std::fmt::Display {
    let colour = match sign {
        Sign::Add => Style::new().green(),
        Sign::Change => Style::new().yellow(),
        Sign::Remove => Style::new().red(),
    };
    colour.apply_to(sign.mark())
}
