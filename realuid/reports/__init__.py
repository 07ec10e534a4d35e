"""What a run or a study shows: the HTML report, charts, comparisons, tables."""
