"""How a report looks, and what its figures are called in words."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 76em;
  padding: 0 1em; color: #222; background: #fff }
nav { columns: 3 16em; font-size: 13px; margin: 1em 0; border: solid #ddd;
  border-width: 1px 0; padding: 0.5em 0 }
nav a { display: block; color: #0057a3; overflow-wrap: anywhere }
h1, h2 { overflow-wrap: anywhere }
table { border-collapse: collapse; font-size: 13px }
th, td { padding: 2px 8px; text-align: right; border-bottom: 1px solid #ddd }
.text { text-align: left }
th { position: sticky; top: 0; background: #f2f2f2; vertical-align: bottom }
img { max-width: 100%; height: auto; display: block }
.row { display: flex; flex-wrap: wrap; gap: 0.5em 1.5em; align-items: flex-start }
figure { margin: 0.5em 0; max-width: 100% }
figcaption, .note { color: #555; font-size: 13px; max-width: 60em }
.scroll { max-height: 34em; max-width: 100%; overflow: auto; margin: 0.5em 0 }
"""
#: What the figures of the summary are.
MEANINGS = {
    'AP': 'mean over IoU thresholds 0.50 to 0.95 and over classes',
    'AP50': 'at IoU 0.50',
    'AP75': 'at IoU 0.75',
    'APs': 'objects below 32 x 32 pixels',
    'APm': 'objects between',
    'APl': 'objects above 96 x 96 pixels',
    'APr': 'rare classes',
    'APc': 'common classes',
    'APf': 'frequent classes',
    'AR': 'largest recall',
    'concurrent_objects': 'objects with two or more labels',
    'first_score': 'their best label',
    'second_score': 'their second-best label',
    'second_given_first': 'second-best over best score; 1: none takes from another',
    'worst_score': 'their lowest label',
    'all_labels_recall': 'fraction all of whose labels score 0.5 or more',
    'single_score': 'objects with one label, to compare with',
}
