//! The table at the end.

/// One measured ratio.
#[derive(Debug)]
struct Row {
    what: String,
    measured: f64,
    against: String,
    limit: f64,
    unit: &'static str,
    goal: Option<f64>,
}

/// The rows so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a ratio of medians; `goal` is the design's, if it has one.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        measured: &[f64],
        against: impl Into<String>,
        limit: &[f64],
        unit: &'static str,
        goal: Option<f64>,
    ) {
        let row = Row {
            what: what.into(),
            measured: median(measured),
            against: against.into(),
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
            let goal = match row.goal {
                Some(goal) if ratio >= goal => format!("≥ {goal:.2}, reached"),
                Some(goal) => format!("≥ {goal:.2}, **missed**"),
                None => "–".to_owned(),
            };
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
