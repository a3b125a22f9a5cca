"""What did a study find: from logged runs to tables, fits, figures and one report. Imports no JAX and no model."""
