//! Lets queries be stopped that multiply their rows.
//!
//! DataFusion's operators give the thread back after so many batches of a *leaf*. A join can make millions of rows of
//! one batch, and an aggregation above it takes them all without a pause: such a query could neither be cancelled nor
//! reach its deadline. This rule makes the output of joins count as well.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::unnest::UnnestExec;

/// The rule; it must be the last.
#[derive(Debug)]
pub(crate) struct YieldAfterJoins;

impl PhysicalOptimizerRule for YieldAfterJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_up(|node| {
            let may_multiply = match node.children().len() {
                0 => false,
                1 => node.is::<UnnestExec>(),
                _ => !node.is::<UnionExec>(),
            };
            Ok(if may_multiply {
                Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(node)
            })
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &'static str {
        "yield_after_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
