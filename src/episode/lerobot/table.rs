//! Columns of numbers and texts as Parquet bytes, and back. Format: <https://parquet.apache.org/docs>.

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

/// The values of all rows, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Float(Vec<f32>),
    Double(Vec<f64>),
    Int(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

/// How many values belong to a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rows {
    /// One each.
    One,
    /// A list of this many each.
    Width(usize),
    /// A list each, of these lengths.
    Lists(Vec<usize>),
}

/// One named column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) values: Values,
    pub(super) rows: Rows,
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    fn physical(&self) -> (Physical, Option<LogicalType>) {
        match self {
            Self::Float(_) => (Physical::FLOAT, None),
            Self::Double(_) => (Physical::DOUBLE, None),
            Self::Int(_) => (Physical::INT64, None),
            Self::Bool(_) => (Physical::BOOLEAN, None),
            Self::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        }
    }
}

impl Column {
    /// A column whose rows are `width` values each; a single value stands without a list.
    pub(super) fn new(name: &str, values: Values, width: usize) -> Self {
        let rows = if width == 1 { Rows::One } else { Rows::Width(width) };
        Self { name: name.to_owned(), values, rows }
    }

    /// A column whose rows are lists.
    pub(super) fn lists(name: &str, values: Values, lengths: Vec<usize>) -> Self {
        Self { name: name.to_owned(), values, rows: Rows::Lists(lengths) }
    }

    fn schema(&self) -> Result<TypePtr> {
        let (physical, logical) = self.values.physical();
        let leaf = |name: &str| {
            Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::REQUIRED)
                .with_logical_type(logical.clone())
                .build()
                .map(Arc::new)
        };
        if self.rows == Rows::One {
            return leaf(&self.name);
        }
        let list = Type::group_type_builder("list")
            .with_repetition(Repetition::REPEATED)
            .with_fields(vec![leaf("element")?])
            .build()?;
        Type::group_type_builder(&self.name)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::List))
            .with_fields(vec![Arc::new(list)])
            .build()
            .map(Arc::new)
    }

    /// Of each value whether it is there, and whether it goes on a list; nothing without lists.
    fn levels(&self) -> Option<(Vec<i16>, Vec<i16>)> {
        let lengths = match &self.rows {
            Rows::One => return None,
            Rows::Width(width) => vec![*width; self.values.len() / (*width).max(1)],
            Rows::Lists(lengths) => lengths.clone(),
        };
        let (mut there, mut goes_on) = (Vec::new(), Vec::new());
        for length in lengths {
            there.extend(std::iter::repeat_n(i16::from(length > 0), length.max(1)));
            goes_on.extend((0..length.max(1)).map(|i| i16::from(i > 0)));
        }
        Some((there, goes_on))
    }
}

/// A Parquet file being written: row groups, one after the other.
pub(super) struct Writer(SerializedFileWriter<Vec<u8>>);

impl Writer {
    /// A file of columns like these, with a note for readers, a key and its text.
    pub(super) fn new(columns: &[Column], note: Option<(&str, String)>) -> Result<Self> {
        let fields = columns.iter().map(Column::schema).collect::<Result<Vec<_>>>()?;
        let schema = Type::group_type_builder("schema").with_fields(fields).build()?;
        let note = note.map(|(key, text)| vec![KeyValue::new(key.to_owned(), text)]);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(note)
            .build();
        SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).map(Self)
    }

    /// Adds a row group.
    pub(super) fn group(&mut self, columns: &[Column]) -> Result<()> {
        let mut group = self.0.next_row_group()?;
        columns.iter().try_for_each(|column| write(&mut group, column))?;
        group.close().map(drop)
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes_written()
    }

    pub(super) fn finish(self) -> Result<Vec<u8>> {
        self.0.into_inner()
    }
}

/// A file of one row group.
pub(super) fn file(columns: &[Column], note: Option<(&str, String)>) -> Result<Vec<u8>> {
    let mut writer = Writer::new(columns, note)?;
    writer.group(columns)?;
    writer.finish()
}

fn write(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, column: &Column) -> Result<()> {
    let levels = column.levels();
    let (there, goes_on) = levels
        .as_ref()
        .map_or((None, None), |(there, goes_on)| (Some(&there[..]), Some(&goes_on[..])));
    let Some(mut writer) = group.next_column()? else {
        return Err(ParquetError::General("expected as many columns as the schema has".into()));
    };
    match &column.values {
        Values::Float(v) => writer.typed::<FloatType>().write_batch(v, there, goes_on),
        Values::Double(v) => writer.typed::<DoubleType>().write_batch(v, there, goes_on),
        Values::Int(v) => writer.typed::<Int64Type>().write_batch(v, there, goes_on),
        Values::Bool(v) => writer.typed::<BoolType>().write_batch(v, there, goes_on),
        Values::Text(v) => {
            let v: Vec<ByteArray> = v.iter().map(|text| text.as_str().into()).collect();
            writer.typed::<ByteArrayType>().write_batch(&v, there, goes_on)
        }
    }?;
    writer.close()
}

/// The columns of a file that `wanted` wants, by name; other types than those of [`Values`] are left
/// out.
pub(super) fn read(bytes: Vec<u8>, wanted: impl Fn(&str) -> bool) -> Result<Vec<Column>> {
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes))?;
    let leaves = reader.metadata().file_metadata().schema_descr_ptr();
    let mut columns = Vec::new();
    for (i, leaf) in leaves.columns().iter().enumerate() {
        let Some(name) = leaf.path().parts().first().filter(|name| wanted(name)) else { continue };
        let nested = leaf.max_rep_level() > 0;
        let mut found = None;
        for group in 0..reader.num_row_groups() {
            let leaf_reader = reader.get_row_group(group)?.get_column_reader(i)?;
            let Some(part) = read_leaf(leaf_reader, leaf.max_def_level())? else { break };
            found = Some(match found {
                None => part,
                Some(before) => joined(before, part)?,
            });
        }
        let Some((values, lengths)) = found else { continue };
        let rows = match lengths.first() {
            _ if !nested => Rows::One,
            Some(width) if lengths.iter().all(|length| length == width) => Rows::Width(*width),
            _ => Rows::Lists(lengths.clone()),
        };
        if !nested && lengths.contains(&0) {
            return Err(ParquetError::General(format!("`{name}`: expected no missing values")));
        }
        columns.push(Column { name: name.clone(), values, rows });
    }
    Ok(columns)
}

/// Values, and how many belong to each row.
type Part = (Values, Vec<usize>);

fn joined(mut before: Part, part: Part) -> Result<Part> {
    match (&mut before.0, part.0) {
        (Values::Float(a), Values::Float(b)) => a.extend(b),
        (Values::Double(a), Values::Double(b)) => a.extend(b),
        (Values::Int(a), Values::Int(b)) => a.extend(b),
        (Values::Bool(a), Values::Bool(b)) => a.extend(b),
        (Values::Text(a), Values::Text(b)) => a.extend(b),
        _ => return Err(ParquetError::General("expected one type in a column".into())),
    }
    before.1.extend(part.1);
    Ok(before)
}

fn read_leaf(reader: ColumnReader, max_def: i16) -> Result<Option<Part>> {
    Ok(Some(match reader {
        ColumnReader::FloatColumnReader(r) => all(r, max_def, Values::Float, |v| v)?,
        ColumnReader::DoubleColumnReader(r) => all(r, max_def, Values::Double, |v| v)?,
        ColumnReader::Int64ColumnReader(r) => all(r, max_def, Values::Int, |v| v)?,
        ColumnReader::Int32ColumnReader(r) => all(r, max_def, Values::Int, i64::from)?,
        ColumnReader::BoolColumnReader(r) => all(r, max_def, Values::Bool, |v| v)?,
        ColumnReader::ByteArrayColumnReader(r) => {
            let text = |v: ByteArray| String::from_utf8_lossy(v.data()).into_owned();
            all(r, max_def, Values::Text, text)?
        }
        _ => return Ok(None),
    }))
}

/// Reads a whole leaf.
fn all<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    max_def: i16,
    values: impl Fn(Vec<V>) -> Values,
    convert: impl Fn(T::T) -> V,
) -> Result<Part> {
    const AT_ONCE: usize = 1 << 16;
    let (mut found, mut there, mut goes_on) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = 0;
    loop {
        let (records, _, _) =
            reader.read_records(AT_ONCE, Some(&mut there), Some(&mut goes_on), &mut found)?;
        if records == 0 {
            break;
        }
        rows += records;
    }
    let mut lengths = Vec::with_capacity(rows);
    for i in 0..found.len().max(there.len()).max(goes_on.len()) {
        if goes_on.get(i).is_none_or(|level| *level == 0) {
            lengths.push(0);
        }
        if let Some(last) =
            lengths.last_mut().filter(|_| there.get(i).is_none_or(|d| *d == max_def))
        {
            *last += 1;
        }
    }
    Ok((values(found.into_iter().map(convert).collect()), lengths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_every_kind_are_read_back() {
        let texts = |t: &[&str]| Values::Text(t.iter().map(|t| (*t).to_owned()).collect());
        let columns = [
            Column::new("a.b", Values::Float(vec![1.0, f32::NAN, -0.0, 3.5, 4.0, 5.0]), 3),
            Column::new("c", Values::Int(vec![i64::MIN, 7]), 1),
            Column::new("d", Values::Bool(vec![true, false]), 1),
            Column::new("e", texts(&["ä", ""]), 1),
            Column::lists("f", Values::Double(vec![0.1, 0.2, 0.3]), vec![3, 0]),
            Column::lists("g", texts(&["x", "y", "z"]), vec![1, 2]),
        ];
        let mut writer = Writer::new(&columns, Some(("note", "text".into()))).unwrap();
        writer.group(&columns).unwrap();
        writer.group(&columns).unwrap();
        let found = read(writer.finish().unwrap(), |name| name != "c").unwrap();
        let names: Vec<&str> = found.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["a.b", "d", "e", "f", "g"]);
        let Values::Float(floats) = &found[0].values else { panic!("{found:?}") };
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let twice = [[1.0, f32::NAN, -0.0, 3.5, 4.0, 5.0]; 2].concat();
        assert_eq!((bits(floats), &found[0].rows), (bits(&twice), &Rows::Width(3)));
        assert_eq!(found[2].values, texts(&["ä", "", "ä", ""]));
        assert_eq!(found[3].rows, Rows::Lists(vec![3, 0, 3, 0]));
        assert_eq!(found[4].rows, Rows::Lists(vec![1, 2, 1, 2]));
    }

    #[test]
    fn bytes_that_are_no_parquet_are_an_error() {
        for bytes in [vec![], b"PAR1".to_vec(), vec![7; 1000]] {
            assert!(read(bytes, |_| true).is_err());
        }
    }
}
