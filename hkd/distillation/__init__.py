"""What a student copies from its teacher, hierarchy by hierarchy; arguments always in the order student, teacher."""
