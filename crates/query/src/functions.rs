//! SQL functions that differ from DataFusion's.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::functions::datetime::to_timestamp_nanos;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// `to_timestamp` with nanoseconds as its unit: numbers are nanoseconds since the epoch, and so is the result.
/// (DataFusion's own reads numbers as seconds.)
pub(crate) fn to_timestamp() -> ScalarUDF {
    ScalarUDF::new_from_impl(ToTimestamp {
        nanos: to_timestamp_nanos(&ConfigOptions::default()),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    nanos: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &'static str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        self.nanos.signature()
    }

    fn return_type(&self, argument_types: &[DataType]) -> Result<DataType> {
        self.nanos.return_type(argument_types)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.nanos.invoke_with_args(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.nanos.documentation()
    }
}
