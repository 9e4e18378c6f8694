//! The table at the end.

/// One measured ratio.
#[derive(Debug)]
struct Row {
    what: String,
    measured: f64,
    against: String,
    limit: f64,
    unit: &'static str,
    goal: Option<Goal>,
}

/// The goal of a ratio.
#[derive(Debug, Clone, Copy)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn text(self, ratio: f64) -> String {
        let (sign, goal, reached) = match self {
            Self::AtLeast(goal) => ('≥', goal, ratio >= goal),
            Self::AtMost(goal) => ('≤', goal, ratio <= goal),
        };
        let verdict = if reached { "reached" } else { "**missed**" };
        format!("{sign} {goal:.2}, {verdict}")
    }
}

/// The rows so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a ratio of medians; `goal` is the least wanted, if there is one.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        measured: &[f64],
        against: impl Into<String>,
        limit: &[f64],
        unit: &'static str,
        goal: Option<f64>,
    ) {
        let goal = goal.map(Goal::AtLeast);
        self.push(what.into(), measured, against.into(), limit, unit, goal);
    }

    /// The same of what ought to be small; `goal` is the most allowed.
    pub(crate) fn add_cost(
        &mut self,
        what: impl Into<String>,
        measured: &[f64],
        against: impl Into<String>,
        limit: &[f64],
        unit: &'static str,
        goal: Option<f64>,
    ) {
        let goal = goal.map(Goal::AtMost);
        self.push(what.into(), measured, against.into(), limit, unit, goal);
    }

    fn push(
        &mut self,
        what: String,
        measured: &[f64],
        against: String,
        limit: &[f64],
        unit: &'static str,
        goal: Option<Goal>,
    ) {
        let row = Row {
            what,
            measured: median(measured),
            against,
            limit: median(limit),
            unit,
            goal,
        };
        println!(
            "  {}: {:.2} of {}",
            row.what,
            row.measured / row.limit,
            row.against
        );
        self.rows.push(row);
    }

    /// Prints all rows as a Markdown table.
    pub(crate) fn print(&self) {
        println!(
            "\n| what | measured | against | limit | ratio | goal |\n|---|---|---|---|---|---|"
        );
        for row in &self.rows {
            let ratio = row.measured / row.limit;
            let goal = row.goal.map_or("–".to_owned(), |goal| goal.text(ratio));
            println!(
                "| {} | {} {u} | {} | {} {u} | **{ratio:.2}** | {goal} |",
                row.what,
                thousands(row.measured),
                row.against,
                thousands(row.limit),
                u = row.unit,
            );
        }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
