//! The statement as a page of HTML: one file without script or anything from elsewhere, which prints well on A4.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{Line, Statement, named, signed};
use crate::policy::price::cost_decimal;

/// All of its looks.
pub const STYLE: &str = "\
@page{size:A4;margin:18mm 16mm}\
body{font:10.5pt/1.45 system-ui,sans-serif;color:#111;max-width:178mm;margin:12mm auto;padding:0 4mm}\
h1{font-size:17pt;margin:0 0 2mm}h2{font-size:12pt;margin:8mm 0 2mm}\
p{margin:0 0 1mm}.from{float:right;text-align:right;color:#444}.meta{color:#444}.for{margin:5mm 0}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
thead{display:table-header-group}tr{break-inside:avoid}\
th,td{text-align:left;padding:1mm 2mm 1mm 0;border-bottom:.2mm solid #ccc;vertical-align:top;overflow-wrap:anywhere}\
th{font-weight:600;border-bottom:.3mm solid #111}.n{text-align:right;white-space:nowrap;padding-right:0;padding-left:2mm}\
.sum td{font-weight:600;border-top:.3mm solid #111;border-bottom:0}.note{margin-top:8mm;color:#444;font-size:9pt}\
@media print{body{margin:0;padding:0;max-width:none}}";

pub fn write(statement: &Statement, out: &mut dyn Write) -> io::Result<()> {
    let Statement { asked, heading, balance, payments, lines, total, .. } = statement;
    let mut page = String::with_capacity(4_096 + lines.len() * 200);
    let (kind, id) = (asked.kind.name(), escaped(&asked.id));
    // Writing into a text cannot fail.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Statement {id} {}</title><style>{STYLE}</style></head>\n<body>\n",
        escaped(&asked.told(asked.from)),
    );
    block(&mut page, "from", &heading.issuer);
    let _ = write!(
        page,
        "<h1>Statement</h1>\n<p class=\"meta\">{} {id}<br>{} up to {}, {}<br>All amounts in US dollars</p>\n",
        capital(kind),
        escaped(&asked.told(asked.from)),
        escaped(&asked.told(asked.to)),
        escaped(&asked.zone_name),
    );
    block(&mut page, "for", &heading.customer);
    page.push_str("<table><tbody>\n");
    let charged = signed(-i128::from(total.charge));
    match balance {
        Some((opening, closing)) => {
            let paid: i128 = payments.iter().map(|payment| i128::from(payment.amount)).sum();
            pair(&mut page, "Opening balance", &signed(*opening), false);
            pair(&mut page, "Paid in and corrected", &signed(paid), false);
            pair(&mut page, "Charges", &charged, false);
            pair(&mut page, "Closing balance", &signed(*closing), true);
        }
        None => pair(&mut page, "Charges", &cost_decimal(total.charge), true),
    }
    page.push_str("</tbody></table>\n");
    if !payments.is_empty() {
        page.push_str(
            "<h2>Payments</h2>\n<table><thead><tr><th>Date</th><th>Entry</th><th>Reference</th><th>Note</th>\
             <th class=\"n\">Amount</th></tr></thead><tbody>\n",
        );
        for payment in payments {
            let entry = format!("{} ({})", named(payment.cause), payment.written);
            let amount = signed(i128::from(payment.amount));
            row(&mut page, &[&statement.day(payment.at), &entry, &payment.id, &payment.note], &[&amount]);
        }
        page.push_str("</tbody></table>\n");
    }
    charges(&mut page, "Charges by model", &statement.models(), false);
    charges(&mut page, "Charges by day", lines, true);
    let mut notes = statement.remarks();
    notes.extend(heading.note.iter().cloned());
    notes.push(format!("Drawn {}.", statement.asked.told(statement.drawn)));
    block(&mut page, "note", &notes);
    page.push_str("</body></html>\n");
    out.write_all(page.as_bytes())
}

fn charges(page: &mut String, title: &str, lines: &[Line], days: bool) {
    if lines.is_empty() {
        return;
    }
    let date = if days { "<th>Date</th>" } else { "" };
    let _ = write!(
        page,
        "<h2>{title}</h2>\n<table><thead><tr>{date}<th>Model</th><th class=\"n\">Calls</th><th class=\"n\">Input tokens</th>\
         <th class=\"n\">Output tokens</th><th class=\"n\">Charge</th></tr></thead><tbody>\n"
    );
    for Line { day, model, sums } in lines {
        let numbers = [sums.requests, sums.input, sums.output].map(|n| n.to_string());
        let charge = cost_decimal(sums.charge);
        let texts: &[&str] = if days { &[day, model] } else { &[model] };
        let [requests, input, output] = &numbers;
        row(page, texts, &[requests, input, output, &charge]);
    }
    page.push_str("</tbody></table>\n");
}

fn row(page: &mut String, texts: &[&str], numbers: &[&str]) {
    page.push_str("<tr>");
    for text in texts {
        let _ = write!(page, "<td>{}</td>", escaped(text));
    }
    for number in numbers {
        let _ = write!(page, "<td class=\"n\">{number}</td>");
    }
    page.push_str("</tr>\n");
}

fn pair(page: &mut String, name: &str, amount: &str, sum: bool) {
    let class = if sum { " class=\"sum\"" } else { "" };
    let _ = writeln!(page, "<tr{class}><td>{name}</td><td class=\"n\">{amount}</td></tr>");
}

fn block(page: &mut String, class: &str, lines: &[String]) {
    if !lines.is_empty() {
        let lines: Vec<String> = lines.iter().map(|line| escaped(line)).collect();
        let _ = writeln!(page, "<p class=\"{class}\">{}</p>", lines.join("<br>"));
    }
}

/// `&`, `<`, `>` and quotes as references (WHATWG HTML, "Escaping a string").
fn escaped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
