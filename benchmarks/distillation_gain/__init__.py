"""What distillation gains: miss rates of students against training length and labels, with and without a teacher."""
