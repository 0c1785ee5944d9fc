//! What holds for every parsed body, whatever was in it. The tests and the fuzz target share it.

use arrow::array::Array;
use tidemill_lineproto::{ColumnType, ERRORS_MAX, EXCERPT_BYTES_MAX, ParsedBody};

/// Panics if `parsed` contradicts itself or `body`.
pub(crate) fn assert_invariants(body: &str, parsed: &ParsedBody) {
    let rows: usize = parsed.tables.iter().map(|table| table.row_count).sum();
    assert_eq!(
        rows + parsed.rejected_count,
        parsed.line_count,
        "every line is a row or rejected"
    );
    assert_eq!(parsed.errors.len(), parsed.rejected_count.min(ERRORS_MAX));
    let body_lines = body.matches('\n').count() + 1;
    for pair in parsed.errors.windows(2) {
        assert!(
            pair[0].line_number < pair[1].line_number,
            "errors are in the order of the lines"
        );
    }
    for error in &parsed.errors {
        assert!((1..=body_lines).contains(&error.line_number));
        assert!(!error.message.is_empty());
        assert!(error.original_line.len() <= EXCERPT_BYTES_MAX);
        assert_eq!(
            error.original_line,
            tidemill_lineproto::excerpt(body, error.line_number)
        );
    }
    for (index, table) in parsed.tables.iter().enumerate() {
        assert!(table.row_count > 0);
        assert!(
            parsed.tables[..index]
                .iter()
                .all(|other| other.name != table.name)
        );
        assert_eq!(table.line_numbers.len(), table.row_count);
        assert!(table.line_numbers.is_sorted_by(|earlier, later| earlier < later));
        assert_tag_sets(&table.tag_set_of_row, &table.tag_set_first_row, table.row_count);
        let (time, columns) = table.columns.split_last().expect("there is a time column");
        assert_eq!((time.name.as_str(), time.column_type), ("time", ColumnType::Time));
        assert_eq!(time.array.null_count(), 0);
        assert!(table.time_min <= table.time_max);
        assert!(!columns.is_empty(), "a line has at least one field");
        for (index, column) in table.columns.iter().enumerate() {
            assert_eq!(column.array.len(), table.row_count);
            assert_eq!(*column.array.data_type(), column.column_type.arrow_type());
            assert!(
                column.array.null_count() < table.row_count,
                "each column has a value"
            );
            column
                .array
                .to_data()
                .validate_full()
                .expect("the array is valid");
            let is_same = |other: &&tidemill_lineproto::ParsedColumn| {
                other.name == column.name && other.column_type == column.column_type
            };
            assert!(
                table.columns[..index].iter().find(is_same).is_none(),
                "one column a name and type"
            );
        }
    }
}

fn assert_tag_sets(set_of_row: &[u32], first_row: &[u32], row_count: usize) {
    assert_eq!(set_of_row.len(), row_count);
    for (set, &row) in first_row.iter().enumerate() {
        let first = set_of_row.iter().position(|&other| other as usize == set);
        assert_eq!(first, Some(row as usize), "each tag set has a first row");
    }
    assert!(set_of_row.iter().all(|&set| (set as usize) < first_row.len()));
}
