// Writes what a reader has called the regions, for 'wsi-anomaly review RESULTS --from-qupath'.
//
// Give a region (or an area that you have drawn) one of the classes Abnormal, Normal variant,
// Artefact or Unsure; a finding follows a colon ("Normal variant: lymph follicle"), a note stands in
// its description. Then Automate > Project scripts > 2_export_reviews, Run > Run for project.
def classes = ['Abnormal', 'Normal variant', 'Artefact', 'Unsure']

def entry = getProjectEntry()
def reviewed = getAnnotationObjects().findAll {
    it.getPathClass() != null && it.getPathClass().toString().tokenize(':')[0].trim() in classes
}
def file = entry.getEntryPath().resolve('reviews.geojson').toFile()
if (reviewed.isEmpty() && !file.exists())
    return
exportObjectsToGeoJson(reviewed, file.getPath(), 'FEATURE_COLLECTION')
println entry.getImageName() + ': ' + reviewed.size() + ' reviewed regions'
